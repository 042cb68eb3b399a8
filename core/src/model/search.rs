//! How chats are searched: by terms, which are made here and nowhere else, so that every database finds the same.
//!
//! A text has terms: its words, without case and accents. Scripts that put no blanks between words have none that could be told apart without a
//! dictionary: of their runs each character is a term, and each pair of neighbours. A query has terms too, and finds a text that has them all.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// How many bytes of a word count.
pub const LONGEST_TERM: usize = 64;
/// How many terms of a text count: those of a long article.
pub const MOST_TERMS: usize = 8_192;
/// How many terms of a query count.
pub const MOST_ASKED: usize = 16;

/// What is searched for: texts that have all of these terms. Without any, it finds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query(BTreeSet<String>);

impl Query {
    /// Takes whatever somebody typed: its first [`MOST_ASKED`] terms. None where it is blank, which asks for nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return None;
        }
        let mut terms = BTreeSet::new();
        // Of a run, the pairs say all that its single characters do.
        each_term(text, Pieces::LargestOnly, |term| {
            if terms.len() < MOST_ASKED || terms.contains(term) {
                terms.insert(term.to_owned());
                true
            } else {
                false
            }
        });
        Some(Self(terms))
    }

    /// The terms, in their order.
    pub fn terms(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether no text can have what is asked for: nothing in the query was a word.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a text with these terms is found.
    #[must_use]
    pub fn finds(&self, terms: &BTreeSet<String>) -> bool {
        !self.0.is_empty() && self.0.is_subset(terms)
    }
}

/// The terms of a text: the first [`MOST_TERMS`] different ones, each of up to [`LONGEST_TERM`] bytes, of letters, digits and marks alone.
#[must_use]
pub fn terms(text: &str) -> BTreeSet<String> {
    let mut terms = BTreeSet::new();
    each_term(text, Pieces::All, |term| {
        if !terms.contains(term) {
            terms.insert(term.to_owned());
        }
        terms.len() < MOST_TERMS
    });
    terms
}

/// Which pieces of a run without blanks are terms.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pieces {
    All,
    LargestOnly,
}

/// Calls `take` with each term of the text, repetitions included, until it says that it has enough.
fn each_term(text: &str, pieces: Pieces, mut take: impl FnMut(&str) -> bool) {
    let mut word = String::new();
    // The character before this one in a run without blanks, and whether it has been in a pair.
    let mut before: Option<(char, bool)> = None;
    let mut pair = String::new();
    let end_of_run = |before: Option<(char, bool)>, take: &mut dyn FnMut(&str) -> bool| match before {
        Some((alone, false)) if pieces == Pieces::LargestOnly => take(alone.encode_utf8(&mut [0; 4])),
        _ => true,
    };
    for c in folded(text).chain([' ']) {
        let kind = Kind::of(c);
        let belongs = matches!(kind, Kind::Word) || matches!(kind, Kind::Mark) && !word.is_empty();
        if belongs {
            word.push(c);
        } else if !word.is_empty() {
            if !take(bounded(&word)) {
                return;
            }
            word.clear();
        }
        if matches!(kind, Kind::Unspaced) {
            if pieces == Pieces::All && !take(c.encode_utf8(&mut [0; 4])) {
                return;
            }
            if let Some((first, _)) = before {
                pair.clear();
                pair.extend([first, c]);
                if !take(&pair) {
                    return;
                }
            }
            before = Some((c, before.is_some()));
        } else if !matches!(kind, Kind::Mark) || belongs {
            if !end_of_run(before, &mut take) {
                return;
            }
            before = None;
        }
        if matches!(kind, Kind::Symbol) && !take(c.encode_utf8(&mut [0; 4])) {
            return;
        }
    }
}

/// The start of a word, as far as it counts.
fn bounded(word: &str) -> &str {
    &word[..word.floor_char_boundary(LONGEST_TERM)]
}

/// What a character is to a search.
enum Kind {
    /// A letter or digit of a script that puts blanks between words.
    Word,
    /// A mark on the letter before it.
    Mark,
    /// A letter of a script that does not.
    Unspaced,
    /// A picture that stands for a word.
    Symbol,
    /// What only stands between words.
    Other,
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            '0'..='9' | 'a'..='z' => Self::Word,
            '\0'..='\u{7f}' => Self::Other,
            // Thai, Lao, Tibetan, Myanmar, Khmer; kana, bopomofo, hangul; Chinese characters. Their marks are of their runs.
            '\u{e01}'..='\u{e3a}'
            | '\u{e40}'..='\u{e4e}'
            | '\u{e80}'..='\u{ece}'
            | '\u{f40}'..='\u{fbc}'
            | '\u{1000}'..='\u{1049}'
            | '\u{1050}'..='\u{109d}'
            | '\u{1780}'..='\u{17d3}'
            | '\u{3005}'..='\u{3007}'
            | '\u{3041}'..='\u{309f}'
            | '\u{30a1}'..='\u{30fa}'
            | '\u{30fc}'..='\u{30ff}'
            | '\u{3105}'..='\u{312f}'
            | '\u{31f0}'..='\u{31ff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}' => Self::Unspaced,
            '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}' => Self::Symbol,
            c if is_combining_mark(c) => Self::Mark,
            c if c.is_alphanumeric() => Self::Word,
            _ => Self::Other,
        }
    }
}

/// The text without case, compatibility forms and accents, character by character.
fn folded(text: &str) -> Box<dyn Iterator<Item = char> + '_> {
    if text.is_ascii() {
        return Box::new(text.chars().map(|c| c.to_ascii_lowercase()));
    }
    let decomposed = text.nfkd().flat_map(char::to_lowercase).nfkd().filter(|c| !is_accent(*c));
    Box::new(decomposed.flat_map(spelled).nfc())
}

/// Marks that a word is the same without: accents, and the vowel points of Arabic and Hebrew. Those of other scripts make another word.
const fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}'..='\u{5c2}' | '\u{5c4}'..='\u{5c5}' | '\u{5c7}'
        | '\u{64b}'..='\u{652}' | '\u{670}' | '\u{640}' | '\u{fe00}'..='\u{fe0f}' | '\u{200b}'..='\u{200d}' | '\u{ad}')
}

/// Letters that Unicode does not take apart, in the spelling of those who do not have them on their keyboard.
fn spelled(c: char) -> impl Iterator<Item = char> {
    let (first, second) = match c {
        'ß' => ('s', Some('s')),
        'æ' => ('a', Some('e')),
        'œ' => ('o', Some('e')),
        'þ' => ('t', Some('h')),
        'ø' => ('o', None),
        'đ' | 'ð' => ('d', None),
        'ł' => ('l', None),
        'ħ' => ('h', None),
        'ı' => ('i', None),
        'ς' => ('σ', None),
        other => (other, None),
    };
    std::iter::once(first).chain(second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(query: &str, text: &str) -> bool {
        Query::parse(query).is_some_and(|query| query.finds(&terms(text)))
    }

    #[test]
    fn words_are_found_whatever_their_case_and_accents() {
        for (query, text) in [
            ("jose", "Says José, loudly"),
            ("JOSÉ", "jose\u{301}"),
            ("strasse", "Die Straße"),
            ("STRAẞE", "strasse"),
            ("Łódź", "lodz"),
            ("smørrebrød", "SMORREBROD"),
            ("ışık", "IŞIK"),
            ("σοφος", "ΣΟΦΟΣ"),
            ("Ελλάδα", "ελλαδα"),
            ("елка", "Ёлка"),
            ("שלום", "שָׁלוֹם"),
            ("محمد", "مُحَمَّد"),
            ("हिन्दी", "यह हिन्दी है"),
            ("ｆｕｌｌ", "full width"),
            ("naïve café", "Cafe for the naive"),
            ("e-mail", "by mail: e"),
            ("snake_case", "a case of snake"),
            ("🦀", "Rust 🦀!"),
            ("42", "answer=42;"),
        ] {
            assert!(found(query, text), "{query} in {text}");
        }
    }

    #[test]
    fn words_are_whole() {
        for (query, text) in
            [("art", "a party"), ("deploy", "deployment"), ("b", "abc"), ("rust crab", "rust"), ("4", "42")]
        {
            assert!(!found(query, text), "{query} in {text}");
        }
    }

    #[test]
    fn scripts_without_blanks_are_found_by_any_part() {
        for (query, text) in [
            ("東", "私は東京都に住む"),
            ("東京", "私は東京都に住む"),
            ("京都", "私は東京都に住む"),
            ("東京都に", "私は東京都に住む"),
            ("カタカナ", "ｶﾀｶﾅです"),
            ("ガギグ", "がギグ ガギグ"),
            ("한국", "한국어를 배운다"),
            ("한국어", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}\u{110b}\u{1165}"),
            ("กรุงเทพ", "ไปกรุงเทพมหานคร"),
            ("东京2020", "2020年的东京"),
        ] {
            assert!(found(query, text), "{query} in {text}");
        }
        for (query, text) in [("東北", "東京と北京"), ("大阪", "東京"), ("か", "が"), ("都", "东京")] {
            assert!(!found(query, text), "{query} in {text}");
        }
    }

    #[test]
    fn a_blank_query_asks_for_nothing_and_an_odd_one_finds_nothing() {
        assert_eq!(Query::parse(" \t\n"), None);
        for odd in ["*", "\"", "+-><()~*\"@", "NULL'--", "%", "\0", "\\", "…", "\u{301}", "a* OR b"] {
            let query = Query::parse(odd).unwrap();
            assert!(!query.finds(&terms("")), "{odd}");
        }
        assert!(Query::parse("?!").unwrap().is_empty());
        assert!(!found("?!", "?!"));
    }

    // R72
    #[test]
    fn long_words_long_queries_and_long_texts_are_bounded() {
        let word = "é".repeat(100_000);
        assert_eq!(terms(&word).into_iter().map(|term| term.len()).collect::<Vec<_>>(), [LONGEST_TERM]);
        assert!(found(&word, &word));
        let many: String = (0..100_000).map(|n| format!("w{n} ")).collect();
        assert_eq!(terms(&many).len(), MOST_TERMS);
        assert_eq!(Query::parse(&many).unwrap().terms().len(), MOST_ASKED);
        assert_eq!(Query::parse(&"東京都庁".repeat(20_000)).unwrap().terms().len(), 4);
    }

    proptest! {
        #[test]
        fn every_text_is_found_by_itself(text in "\\PC{0,40}") {
            if let Some(query) = Query::parse(&text) {
                prop_assert!(query.is_empty() || query.finds(&terms(&text)), "{:?} {:?}", query, terms(&text));
            }
        }

        #[test]
        fn terms_are_short_and_hold_no_blank(text in any::<String>()) {
            for term in terms(&text) {
                prop_assert!(!term.is_empty() && term.len() <= LONGEST_TERM);
                prop_assert!(!term.contains(|c: char| c.is_whitespace() || c.is_ascii_punctuation() || c.is_control()));
            }
        }
    }
}
