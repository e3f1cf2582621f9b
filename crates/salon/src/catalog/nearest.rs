//! Names that somebody may have meant.

/// How many candidates are looked at, and how many are answered.
const LOOKED_AT: usize = 2_000;
const ANSWERED: usize = 3;

/// The nearest of `known` to `name`, the nearest first; none if nothing is near.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted = plain(name);
    // A third of the name wrong is another name.
    let most = (wanted.len() / 3).clamp(1, 8);
    let mut near: Vec<(usize, &str)> = known
        .take(LOOKED_AT)
        .filter_map(|known| {
            let candidate = plain(known);
            let within = wanted.len() >= 3
                && (candidate.windows(wanted.len()).any(|part| part == wanted)
                    || candidate.len() >= 3 && wanted.windows(candidate.len()).any(|part| part == candidate));
            match distance(&wanted, &candidate, most) {
                Some(distance) => Some((distance, known)),
                // Of those that are part of it, the longest was meant.
                None => within.then(|| (most + 1 + wanted.len().abs_diff(candidate.len()), known)),
            }
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(ANSWERED).map(|(_, known)| known.to_owned()).collect()
}

/// What of a name people get right: neither case nor punctuation.
fn plain(name: &str) -> Vec<u8> {
    name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase()).take(128).collect()
}

/// How many letters have to be changed, added or left out; `None` if more than `most`.
fn distance(one: &[u8], other: &[u8], most: usize) -> Option<usize> {
    if one.len().abs_diff(other.len()) > most {
        return None;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (to, candidate) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != candidate);
            diagonal = row[to + 1];
            row[to + 1] = changed.min(diagonal + 1).min(row[to] + 1);
        }
        if row.iter().min().is_some_and(|least| *least > most) {
            return None;
        }
    }
    Some(row[other.len()]).filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_and_parts_of_names_are_recognised() {
        let known = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "openai/gpt-4o", "llama3.2", "echo"];
        for (name, expected) in [
            ("gpt4o", vec!["gpt-4o", "gpt-4o-mini", "openai/gpt-4o"]),
            ("GPT-4o-mni", vec!["gpt-4o-mini", "gpt-4o"]),
            ("claude-sonet-4.5", vec!["claude-sonnet-4-5"]),
            ("mini", vec!["gpt-4o-mini"]),
            ("something-else-entirely", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        }
    }

    #[test]
    fn long_names_and_long_lists_take_no_time() {
        let known: Vec<String> = (0..100_000).map(|n| format!("{}{n}", "a".repeat(120))).collect();
        assert_eq!(nearest(&"b".repeat(128), known.iter().map(String::as_str)), Vec::<String>::new());
    }
}
