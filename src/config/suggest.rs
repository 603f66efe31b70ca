//! Which of the known words a mistyped one was probably meant to be.

/// Candidates that are looked at for all advice on one configuration: with tens of thousands of names
/// and of mistakes, advice on each would take minutes.
pub(crate) const CANDIDATES_MAX: usize = 200_000;

/// Advice, as long as it is cheap.
#[derive(Debug)]
pub(crate) struct Advice {
    candidates_left: usize,
}

impl Default for Advice {
    fn default() -> Self {
        Self {
            candidates_left: CANDIDATES_MAX,
        }
    }
}

impl Advice {
    /// [`did_you_mean`], or nothing once too many candidates have been looked at.
    pub(crate) fn did_you_mean<'c>(
        &mut self,
        word: &str,
        candidates: impl ExactSizeIterator<Item = &'c str>,
        quote: char,
    ) -> Option<String> {
        // Some of the candidates will not do: the nearest may be among the others.
        self.candidates_left = self.candidates_left.checked_sub(candidates.len())?;
        did_you_mean(word, candidates, quote)
    }
}

/// `did you mean ...`, if one of `candidates` is near; `quote` stands around it.
pub(crate) fn did_you_mean<'c>(
    word: &str,
    candidates: impl Iterator<Item = &'c str>,
    quote: char,
) -> Option<String> {
    let word: Vec<char> = word.chars().collect();
    let near = candidates
        .filter_map(|candidate| Some((distance(&word, candidate)?, candidate)))
        .min_by_key(|(distance, _)| *distance);
    near.map(|(_, candidate)| format!("did you mean {quote}{candidate}{quote}?"))
}

/// Edits that still count as a slip.
const DISTANCE_MAX: usize = 2;

/// Insertions, deletions, replacements and swaps of neighbours that turn one into the other; `None`:
/// more than a slip, or every character.
fn distance(word: &[char], candidate: &str) -> Option<usize> {
    let candidate: Vec<char> = candidate.chars().collect();
    if word.len().abs_diff(candidate.len()) > DISTANCE_MAX {
        return None;
    }
    let mut before_last = vec![0; candidate.len() + 1];
    let mut last: Vec<usize> = (0..=candidate.len()).collect();
    for (i, from) in word.iter().enumerate() {
        // Further off the diagonal than that there are no slips.
        let mut row = vec![DISTANCE_MAX + 1; candidate.len() + 1];
        row[0] = i + 1;
        let near = i.saturating_sub(DISTANCE_MAX)..candidate.len().min(i + DISTANCE_MAX + 1);
        for j in near {
            let to = &candidate[j];
            let replaced = last[j] + usize::from(from != to);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == candidate[j - 1] && word[i - 1] == *to {
                least = least.min(before_last[j - 1] + 1);
            }
            row[j + 1] = least;
        }
        before_last = std::mem::replace(&mut last, row);
    }
    let distance = last[candidate.len()];
    (distance <= DISTANCE_MAX && distance < candidate.len().max(word.len())).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggest(word: &str) -> Option<String> {
        did_you_mean(word, ["listen", "pool", "balance"].into_iter(), '`')
    }

    #[test]
    fn two_edits_are_a_slip_and_three_are_not() {
        assert_eq!(suggest("lsiten").as_deref(), Some("did you mean `listen`?"));
        assert_eq!(
            suggest("balanc").as_deref(),
            Some("did you mean `balance`?")
        );
        assert_eq!(suggest("pol").as_deref(), Some("did you mean `pool`?"));
        assert_eq!(
            suggest("blanec").as_deref(),
            Some("did you mean `balance`?")
        );
        assert_eq!(suggest("blnc"), None);
        assert_eq!(suggest(""), None);
    }

    #[test]
    fn advice_on_many_mistakes_among_many_names_is_bounded() {
        let names: Vec<String> = (0..90_000).map(|n| format!("{n:060}")).collect();
        let compared = std::cell::Cell::new(0);
        let mut advice = Advice::default();
        let mut given = 0;
        for n in 0..2_000 {
            let candidates = names.iter().map(|name| {
                compared.set(compared.get() + 1);
                name.as_str()
            });
            let mistyped = format!("{n:060}x");
            given += usize::from(advice.did_you_mean(&mistyped, candidates, '"').is_some());
        }
        assert_eq!(given, 2);
        assert!(compared.get() <= CANDIDATES_MAX, "{compared:?}");
    }

    #[test]
    fn only_slips_near_the_diagonal_count() {
        let near = |word| did_you_mean(word, ["abcdefghij"].into_iter(), '"').is_some();
        for word in [
            "cdefghij",
            "abcdefgh",
            "xyabcdefghij",
            "bacdefghji",
            "abefghij",
        ] {
            assert!(near(word), "{word}");
        }
        for word in ["defghij", "cdefghijab", "badcfeghij", "abcdefgxyz"] {
            assert!(!near(word), "{word}");
        }
    }

    #[test]
    fn nearest_candidate_wins() {
        let near = did_you_mean("db-a", ["db-bb", "db-b", "db-a2"].into_iter(), '"');
        assert_eq!(near.as_deref(), Some("did you mean \"db-b\"?"));
    }
}
