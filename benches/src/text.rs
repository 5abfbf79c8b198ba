//! Numbers and texts, as short as tables and plots need them.

/// Wraps a text between words into lines of at most `letters` letters. Only a longer word exceeds
/// that.
pub(crate) fn wrap(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= letters => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Formats a number. A whole number is shown as it is. Any other number has three significant
/// digits, or more if it has more before the decimal point.
pub(crate) fn brief(figure: f64) -> String {
    let digits = digits(figure);
    format!("{figure:.digits$}")
}

/// Returns the number of digits after the decimal point.
pub(crate) fn digits(figure: f64) -> usize {
    let magnitude = figure.abs().max(1e-4).log10().floor();
    if figure.fract() == 0.0 {
        0
    } else {
        (2.0 - magnitude).max(0.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All digits before the point are kept.
    #[test]
    fn a_brief_number_is_whole_or_has_three_significant_digits() {
        let written = [
            0.0, 0.0006, 0.031_44, 0.5, 1.0, 1.234, 12.34, 24.0, 123.4, 1234.4, 45_000.0,
        ]
        .map(brief);
        assert_eq!(
            written,
            [
                "0", "0.000600", "0.0314", "0.500", "1", "1.23", "12.3", "24", "123", "1234",
                "45000"
            ]
        );
        assert_eq!(brief(-0.02), "-0.0200");
    }

    #[test]
    fn a_text_breaks_between_words_only() {
        assert_eq!(
            wrap("resident bytes of a source", 11),
            ["resident", "bytes of a", "source"]
        );
        assert_eq!(
            wrap("incomprehensibly long", 5),
            ["incomprehensibly", "long"]
        );
        assert!(wrap("", 5).is_empty());
    }
}
