//! The known name that somebody may have meant, for messages about unknown ones.

use strsim::jaro_winkler;

/// The known name most like `name`, if one is like it at all.
pub fn nearest<S: AsRef<str>>(name: &str, known: impl IntoIterator<Item = S>) -> Option<S> {
    let likeness = |known: &S| jaro_winkler(name, known.as_ref());
    known
        .into_iter()
        .map(|known| (likeness(&known), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_like_nothing_is_told_nothing() {
        let names = ["memory-limit", "max-item-size"];
        assert_eq!(nearest("memory-limt", names), Some("memory-limit"));
        assert_eq!(nearest("maxitemsize", names), Some("max-item-size"));
        assert_eq!(nearest("zzzzqqq", names), None);
    }
}
