//! Two revisions of ringlane: built aside from each other, measured in the same rounds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::machine::first_line;
use crate::report::{Measured, Round};
use crate::statistics::bootstrap;

/// What the resampling starts from: any number will do, and the same one gives the same interval.
const SEED: u64 = 1;

/// The name of the tree as it is now.
pub(crate) const HERE: &str = "here";

/// Two programs.
#[derive(Clone, Debug)]
pub(crate) struct Builds {
    pub(crate) revision: PathBuf,
    pub(crate) here: PathBuf,
}

/// Checks the revision out into a worktree of its own and builds both; what was built before is used.
pub(crate) fn build(root: &Path, revision: &str, here: Option<&Path>) -> Result<Builds> {
    let commit = format!("{revision}^{{commit}}");
    let hash = first_line(git(root).args(["rev-parse", "--verify", "--quiet", &commit]))
        .with_context(|| format!("`{revision}` is no revision of {}", root.display()))?;
    let directory = root.join("tools/bench/target/against");
    let tree = directory.join("tree");
    if tree.join(".git").exists() {
        run(git(&tree).args(["checkout", "--quiet", "--force", "--detach", &hash]))?;
    } else {
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        run(git(root).args(["worktree", "prune"]))?;
        run(git(root)
            .args(["worktree", "add", "--quiet", "--force", "--detach"])
            .arg(&tree)
            .arg(&hash))?;
    }
    let target = directory.join("target");
    cargo(&tree, &target)?;
    // The next revision is built at the same place.
    let kept = directory.join(format!("ringlane-{hash}"));
    std::fs::copy(target.join("release/ringlane"), &kept)
        .with_context(|| kept.display().to_string())?;
    let here = match here {
        Some(here) => here.to_owned(),
        None => {
            cargo(root, &root.join("target"))?;
            root.join("target/release/ringlane")
        }
    };
    Ok(Builds {
        revision: kept,
        here,
    })
}

fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory);
    command
}

fn cargo(directory: &Path, target: &Path) -> Result<()> {
    run(Command::new("cargo")
        .current_dir(directory)
        .args(["build", "--release", "--locked", "--bin", "ringlane"])
        .arg("--target-dir")
        .arg(target))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| command.get_program().display().to_string())?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Gives each workload the ratio of its two rows, round by round.
pub(crate) fn pair(measured: &mut [Measured], revision: &str) {
    for measured in measured {
        let figures = |peer: &str| -> Vec<(usize, f64)> {
            let rounds = measured.rows.iter().filter(|row| row.peer == peer);
            rounds
                .flat_map(|row| &row.rounds)
                .filter_map(|round| Some((round.number, figure(measured, round)?)))
                .collect()
        };
        let before = figures(revision);
        let ratios: Vec<f64> = figures(HERE)
            .iter()
            .filter_map(|(number, here)| {
                let other = before.iter().find(|(other, _)| other == number)?;
                Some(here / other.1)
            })
            .collect();
        measured.paired = bootstrap(&ratios, SEED);
    }
}

fn figure(measured: &Measured, round: &Round) -> Option<f64> {
    if measured.workload.is_judged_by_latency() {
        round.latency.map(|latency| latency.p999)
    } else {
        round.cost()
    }
}

#[cfg(test)]
mod tests {
    use super::{HERE, pair};
    use crate::report::{Family, Measured, Round, Row};
    use crate::workload::Workload;

    #[test]
    fn rounds_are_paired_by_number() {
        let round = |number: usize, spent: f64| Round {
            number,
            spent: Some(spent),
            units: 1.0,
            ..Round::default()
        };
        let row = |peer: &str, rounds| Row::new(peer.to_owned(), Family::Ringlane, rounds);
        let mut measured = [Measured {
            workload: Workload::Small64,
            notes: Vec::new(),
            rows: vec![
                row("old", vec![round(0, 2.0), round(1, 4.0), round(2, 8.0)]),
                // The second round came to nothing.
                row(
                    HERE,
                    vec![
                        round(0, 1.0),
                        Round {
                            number: 1,
                            ..Round::default()
                        },
                        round(2, 4.0),
                    ],
                ),
            ],
            paired: None,
        }];
        pair(&mut measured, "old");
        let interval = measured[0].paired.unwrap();
        assert_eq!(
            (interval.low, interval.median, interval.high),
            (0.5, 0.5, 0.5)
        );
    }
}
