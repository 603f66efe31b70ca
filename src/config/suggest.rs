//! Which of the known words a mistyped one was probably meant to be.

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
        let mut row = vec![i + 1];
        for (j, to) in candidate.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == candidate[j - 1] && word[i - 1] == *to {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
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
    fn nearest_candidate_wins() {
        let near = did_you_mean("db-a", ["db-bb", "db-b", "db-a2"].into_iter(), '"');
        assert_eq!(near.as_deref(), Some("did you mean \"db-b\"?"));
    }
}
