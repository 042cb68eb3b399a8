//! Reads server-sent events (HTML Living Standard, section 9.2.6) from bytes, however they are sliced, and does no I/O.

use std::mem;

/// How large one event may be: what a provider sends within one must not exhaust our memory.
pub(super) const MAX_EVENT: usize = 8 << 20;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One event. Ids and retry times are of no use here: an answer can't be taken up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// What kind it is, where it has a name.
    pub(super) name: Option<String>,
    /// Its `data` lines, joined by line feeds.
    pub(super) data: String,
}

/// Why the bytes are no stream of events. Nothing may be pushed after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// An event is larger than [`MAX_EVENT`].
    TooLarge,
    /// An event is no UTF-8. The standard would replace what is wrong; we would rather fail than change a text.
    NotUtf8,
}

/// The parser. An event that the stream's end cuts off never comes out, as the standard wants.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The line so far, without its end.
    line: Vec<u8>,
    /// The data lines so far of the event, each with a line feed after it.
    data: Vec<u8>,
    name: Vec<u8>,
    /// Whether the last byte was a carriage return, so that a line feed belongs to it.
    after_return: bool,
    /// Whether a line has ended: a byte order mark may only stand before.
    begun: bool,
}

impl Parser {
    /// Takes the next bytes and hands over the events that they complete, in order. On an error the events before it have been handed over.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut event: impl FnMut(Event)) -> Result<(), Malformed> {
        while let Some(&first) = bytes.first() {
            if mem::take(&mut self.after_return) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + self.data.len() + part.len() > MAX_EVENT {
                return Err(Malformed::TooLarge);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if let Some(complete) = self.end_line()? {
                event(complete);
            }
        }
        Ok(())
    }

    /// Takes in the line that has just ended, and gives the event where it was the empty line that ends one.
    fn end_line(&mut self) -> Result<Option<Event>, Malformed> {
        let mut line = self.line.as_slice();
        if !mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            self.line.clear();
            return self.end_event();
        }
        // A line that begins with a colon is a comment: a field without a name, which is none that we know.
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            _ => {}
        }
        self.line.clear();
        Ok(None)
    }

    fn end_event(&mut self) -> Result<Option<Event>, Malformed> {
        let name = mem::take(&mut self.name);
        let mut data = mem::take(&mut self.data);
        if data.pop().is_none() {
            return Ok(None);
        }
        let text = |bytes| String::from_utf8(bytes).map_err(|_| Malformed::NotUtf8);
        Ok(Some(Event { name: (!name.is_empty()).then(|| text(name)).transpose()?, data: text(data)? }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parses a stream that comes in these slices.
    fn parse<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Result<(), Malformed>) {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        let end = slices.into_iter().try_for_each(|slice| parser.push(slice, |event| events.push(event)));
        (events, end)
    }

    fn data(stream: &str) -> Vec<String> {
        let (events, end) = parse([stream.as_bytes()]);
        end.unwrap();
        events.into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn lines_end_in_every_way_that_the_standard_knows() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = ["data: one", "", "data:two", "data:  three", "", "data", "", ""].join(end);
            assert_eq!(data(&stream), ["one", "two\n three", ""], "{end:?}");
        }
    }

    #[test]
    fn comments_and_unknown_fields_are_no_data() {
        assert_eq!(data(": hello\n\nretry: 5\nid: 7\nnonsense\ndata: x\n:\n\n"), ["x"]);
    }

    #[test]
    fn an_event_has_the_name_of_its_own_lines_only() {
        let (events, _) = parse(["event: ping\n\nevent: error\ndata: 1\n\ndata: 2\n\n".as_bytes()]);
        let named = |name: Option<&str>, data: &str| Event { name: name.map(str::to_owned), data: data.to_owned() };
        assert_eq!(events, [named(Some("error"), "1"), named(None, "2")]);
    }

    #[test]
    fn a_byte_order_mark_is_taken_off_the_start_alone() {
        assert_eq!(data("\u{feff}data: a\n\n"), ["a"]);
        assert!(data("\n\u{feff}data: a\n\n").is_empty());
    }

    #[test]
    fn an_event_without_its_empty_line_never_comes() {
        assert!(data("data: a\n").is_empty());
        assert!(data("data: a").is_empty());
    }

    #[test]
    fn an_event_that_is_no_text_is_refused_and_those_before_it_are_kept() {
        let (events, end) = parse([&b"data: a\n\ndata: \xff\n\n"[..]]);
        assert_eq!((events.len(), end), (1, Err(Malformed::NotUtf8)));
    }

    #[test]
    fn a_mebibyte_is_taken_and_more_than_eight_are_refused_without_being_kept() {
        let line = format!("data: {}\n\n", "x".repeat(1 << 20));
        assert_eq!(data(&line)[0].len(), 1 << 20);

        for endless in ["x", ": x", &format!("data: {}\n", "x".repeat(1000))] {
            let slice = endless.repeat((1 << 20) / endless.len());
            let mut parser = Parser::default();
            let taken = (0..20).take_while(|_| parser.push(slice.as_bytes(), |_| ()).is_ok()).count();
            assert!(taken <= 8, "{taken} MiB of {:?}", &endless[..1]);
            assert!(parser.line.capacity() + parser.data.capacity() <= 3 * MAX_EVENT);
        }
    }

    const PARTS: [&[u8]; 12] = [
        b"data: ",
        b"data",
        b"event: e",
        b":",
        b"\n",
        b"\r",
        b"\r\n",
        b" ",
        "é語🦀".as_bytes(),
        BYTE_ORDER_MARK,
        b"\xff",
        b"{}",
    ];

    proptest! {
        #[test]
        fn slicing_changes_nothing(
            stream in proptest::collection::vec(prop::sample::select(&PARTS[..]), 0..40),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let stream = stream.concat();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
            cuts.sort_unstable();
            let whole = parse([&stream[..]]);
            prop_assert_eq!(&whole, &parse(cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]])));
            prop_assert_eq!(&whole, &parse(stream.chunks(1)));
        }
    }
}
