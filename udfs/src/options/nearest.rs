//! The name most likely meant by a mistyped one.

/// The candidate nearest to `name` in edits (an insertion, deletion, substitution or swap of
/// neighbours counts one; case is ignored), the first of equals. None if all candidates are further
/// than a third of the name's length, and at least one edit, away, or have nothing in common with
/// it.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let limit = (name.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            let other: Vec<char> = candidate.to_lowercase().chars().collect();
            // Cheap bound first: the difference of the lengths alone may exceed the limit.
            let distance = match name.len().abs_diff(other.len()) {
                difference if difference > limit => usize::MAX,
                _ => distance(&name, &other),
            };
            (distance, candidate)
        })
        .filter(|(distance, candidate)| {
            *distance <= limit && *distance < name.len().max(candidate.chars().count())
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance (Damerau 1964 without edits of a swapped pair).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_previous = vec![0; b.len() + 1];
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut current = vec![i + 1; b.len() + 1];
        for (j, &y) in b.iter().enumerate() {
            let substituted = previous[j] + usize::from(x != y);
            let mut best = substituted.min(previous[j + 1] + 1).min(current[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before_previous[j - 1] + 1);
            }
            current[j + 1] = best;
        }
        before_previous = std::mem::replace(&mut previous, current);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("epcohs", "epochs", 1),
            ("ca", "abc", 3),
        ] {
            assert_eq!(distance(&chars(a), &chars(b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let names = ["epochs", "epsilon", "l1", "l2"];
        assert_eq!(nearest("epoch", names), Some("epochs"));
        assert_eq!(nearest("EPOCHS", names), Some("epochs"));
        assert_eq!(nearest("l3", names), Some("l1"));
        assert_eq!(nearest("trees", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest("x", []), None);
        assert_eq!(nearest("x", ["y", "xx"]), Some("xx"));
    }
}
