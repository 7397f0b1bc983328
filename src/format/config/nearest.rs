//! The known word that somebody probably meant.

/// Longer words are not compared: the cost is quadratic.
const CHARS_MAX: usize = 64;

/// The word of `known` nearest to `word`, if it is near enough to be what was meant (about a third of its letters).
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    let distances = known.into_iter().map(|candidate| (distance(&folded, &fold(candidate)), candidate));
    let (distance, candidate) = distances.min()?;
    let far = folded.len().min(CHARS_MAX).div_ceil(3);
    (distance <= far && folded.len() <= CHARS_MAX).then_some(candidate)
}

/// `append_only`, `appendOnly` and `append-only` are the same word.
fn fold(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).take(CHARS_MAX + 1).collect()
}

/// Letters to insert, remove, change, or swap with their neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(from != to)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let of = |a: &str, b: &str| distance(&fold(a), &fold(b));
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("abcd", "acbd", 1),
        ] {
            assert_eq!(of(a, b), expected, "{a} → {b}");
        }
        assert_eq!(of("append_only", "append-only"), 0);
    }

    #[test]
    fn only_what_is_near() {
        let known = ["directory", "num-levels", "append-only", "auto-clean"];
        assert_eq!(nearest("append_only", known), Some("append-only"));
        assert_eq!(nearest("numLevel", known), Some("num-levels"));
        assert_eq!(nearest("dierctory", known), Some("directory"));
        assert_eq!(nearest("port", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"append-only".repeat(100), known), None);
        assert_eq!(nearest("x", []), None);
    }
}
