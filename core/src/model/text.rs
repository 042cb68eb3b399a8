//! Text as people send it, checked once where it enters.

use crate::error::Violation;

/// Takes a text of `least` to `most` characters without NUL, kept exactly as it came.
///
/// # Errors
/// A violation of `field`.
pub fn bounded(field: &str, text: String, least: usize, most: usize) -> Result<String, Violation> {
    if text.contains('\0') {
        return Err(Violation::new(field, "must not contain the character NUL"));
    }
    // A character has at most four bytes: a text far too long is not counted.
    let fits = text.len() <= most * 4 && text.chars().count() <= most;
    if !fits {
        return Err(Violation::new(field, format!("must have at most {most} characters")));
    }
    if least > 0 && text.trim().is_empty() {
        return Err(Violation::new(field, "must not be blank"));
    }
    Ok(text)
}

/// Takes a text of up to `most` bytes without NUL.
///
/// # Errors
/// A violation of `field`.
pub fn bounded_bytes(field: &str, text: String, most: usize) -> Result<String, Violation> {
    if text.contains('\0') {
        return Err(Violation::new(field, "must not contain the character NUL"));
    }
    if text.len() > most {
        return Err(Violation::new(field, format!("must have at most {most} bytes in UTF-8")));
    }
    Ok(text)
}

/// Takes a one-line name of 1 to 100 characters.
///
/// # Errors
/// A violation of `field`.
pub fn name(field: &str, text: String) -> Result<String, Violation> {
    let text = bounded(field, text, 1, 100)?;
    if text.chars().any(char::is_control) {
        return Err(Violation::new(field, "must not contain control characters"));
    }
    Ok(text)
}

/// The text in the form in which it is searched: compatibility characters resolved, marks off, lower case, so that `jose` finds `José`.
#[must_use]
pub fn folded(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization as _;
    use unicode_normalization::char::is_combining_mark;
    text.nfkd()
        .filter(|c| !is_combining_mark(*c))
        .flat_map(char::to_lowercase)
        .nfkd()
        .filter(|c| !is_combining_mark(*c))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_text_exactly_as_it_came() {
        for odd in ["😀 x", "e\u{301}", "\u{202e}abc", "a\u{200b}b", " padded "] {
            assert_eq!(name("name", odd.into()), Ok(odd.into()));
        }
    }

    #[test]
    fn folding_forgets_case_and_marks() {
        for same in ["José", "JOSE\u{301}", "jose", "ＪＯＳＥ"] {
            assert_eq!(folded(same), "jose", "{same}");
        }
        assert_eq!(folded("İSTANBUL"), "istanbul");
        assert_eq!(folded("東京 100%_\\"), "東京 100%_\\");
    }

    #[test]
    fn refuses_blank_nul_and_too_long() {
        for bad in ["", "   ", "a\0b", "a\nb"] {
            assert!(name("name", bad.into()).is_err(), "{bad:?}");
        }
        assert!(name("name", "é".repeat(100)).is_ok());
        assert!(name("name", "é".repeat(101)).is_err());
        assert!(bounded_bytes("content", "é".repeat(3), 5).is_err());
    }
}
