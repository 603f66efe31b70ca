//! Faults and warnings: collected in any order, shown in the order of the files with a picture each.

use std::fmt::Write;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::source::{Place, Source};

/// Faults or warnings, each with its place.
#[derive(Clone, Debug, Default)]
pub struct Report {
    severity: Severity,
    findings: Vec<Finding>,
    more: usize,
    sources: Arc<Vec<Source>>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Severity {
    /// The configuration cannot be used.
    #[default]
    Fault,
    /// It can, but is probably not meant so.
    Warning,
}

/// One thing to tell the operator.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// `None`: the file itself cannot be read; the message names it.
    place: Option<Place>,
    message: String,
    help: Option<String>,
    /// A second place that belongs to it, and what is there.
    other: Option<(Place, &'static str)>,
}

/// Findings in the making.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    count: usize,
}

/// Findings that a report shows.
const SHOWN_MAX: usize = 100;

/// Findings that are kept to be sorted; a file of garbage could have millions.
const KEPT_MAX: usize = 1000;

impl Report {
    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// Both reports as one; `other` is of the same files and of the same kind.
    pub fn and(mut self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        self.more += other.more;
        self.findings.extend(other.findings);
        self.findings.sort_by_key(|finding| finding.place);
        self.more += self.findings.len().saturating_sub(SHOWN_MAX);
        self.findings.truncate(SHOWN_MAX);
        self
    }

    /// How many findings there are, those beyond the shown ones included.
    pub fn len(&self) -> usize {
        self.findings.len() + self.more
    }

    /// The whole report as the operator reads it, each finding with its source line underlined.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut text = String::new();
        for finding in &self.findings {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&renderer.render(&self.groups(finding)));
            text.push('\n');
        }
        if self.more > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\nand {} more", self.more);
        }
        text
    }

    fn groups<'r>(&'r self, finding: &'r Finding) -> Vec<Group<'r>> {
        let level = match self.severity {
            Severity::Fault => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let message = one_line(&finding.message);
        let Some((place, source)) = finding.place.and_then(|place| self.locate(place)) else {
            return vec![Group::with_title(level.primary_title(message))];
        };
        let title = level.primary_title(format!("{}: {message}", spot(source, place)));
        let mut group = Group::with_title(title).element(snippet(source, place));
        if let Some(help) = &finding.help {
            group = group.element(Level::HELP.message(one_line(help)));
        }
        let mut groups = vec![group];
        if let Some((place, what)) = finding.other
            && let Some((place, source)) = self.locate(place)
        {
            let title = Level::NOTE.secondary_title(format!("{}: {what}", spot(source, place)));
            groups.push(Group::with_title(title).element(snippet(source, place)));
        }
        groups
    }

    fn locate(&self, place: Place) -> Option<(Place, &Source)> {
        Some((place, self.sources.get(place.file)?))
    }
}

impl Finding {
    /// `message` is about `place`.
    pub(crate) fn at(place: Place, message: impl Into<String>) -> Self {
        Self {
            place: Some(place),
            message: message.into(),
            help: None,
            other: None,
        }
    }

    /// `message` is about a whole file, which it names.
    pub(crate) fn of_file(message: String) -> Self {
        Self {
            place: None,
            message,
            help: None,
            other: None,
        }
    }

    /// Says what to do about it.
    pub(crate) fn help(self, help: Option<String>) -> Self {
        Self { help, ..self }
    }

    /// Shows `what` in a second place.
    pub(crate) fn also(self, place: Place, what: &'static str) -> Self {
        Self {
            other: Some((place, what)),
            ..self
        }
    }
}

impl Findings {
    /// Adds a finding, as long as there is any use in it.
    pub(crate) fn push(&mut self, finding: Finding) {
        self.push_with(|| finding);
    }

    /// Adds a finding that costs something to word.
    pub(crate) fn push_with(&mut self, finding: impl FnOnce() -> Finding) {
        self.count += 1;
        if self.list.len() < KEPT_MAX {
            self.list.push(finding());
        }
    }

    /// Whether nothing was found.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sorts the findings by place.
    pub(crate) fn into_report(mut self, severity: Severity, sources: &Arc<Vec<Source>>) -> Report {
        self.list.sort_by_key(|finding| finding.place);
        self.list.truncate(SHOWN_MAX);
        let more = self.count - self.list.len();
        Report {
            severity,
            findings: self.list,
            more,
            sources: Arc::clone(sources),
        }
    }
}

/// `file:line` of a place.
pub(crate) fn line(sources: &[Source], place: Place) -> String {
    sources.get(place.file).map_or_else(String::new, |source| {
        let (line, _) = source.line_and_column(place.start);
        format!("{}:{line}", one_line(&source.name))
    })
}

fn spot(source: &Source, place: Place) -> String {
    let (line, column) = source.line_and_column(place.start);
    format!("{}:{line}:{column}", one_line(&source.name))
}

fn snippet(source: &Source, place: Place) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
    let picture = source.picture(place);
    // Only the one line is handed over: the renderer would index the whole file for every finding.
    Snippet::source(picture.text)
        .line_start(source.line_and_column(place.start).0)
        .annotation(AnnotationKind::Primary.span(picture.marked))
}

/// Control characters would break the report's first line or steer the terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}
