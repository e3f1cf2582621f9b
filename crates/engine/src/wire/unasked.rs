//! Takes out of a passing stream what the client did not ask for.

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;

/// A chunk that states the usage is shorter than this. What is longer passes without being looked at.
const MAX_HELD: usize = 16 << 10;

/// Removes the chunk that states the usage of a stream, and nothing else, from the bytes of a chat or a completion for
/// which we asked on our own account. How the bytes are cut makes no difference to what passes.
///
/// It holds back an event until its end has come, because what it says is not known before. Nobody waits for that: a
/// client cannot read half an event either.
#[derive(Debug)]
pub struct Unasked {
    /// The event that has begun.
    held: Vec<u8>,
    /// The event that has begun is too long to be a statement of usage, and is passing already.
    is_passing: bool,
    at_line_start: bool,
    /// The last byte was CR, so an LF that comes next belongs to it.
    after_cr: bool,
    /// The CR was that of an empty line, so the event ends behind the LF that may follow.
    is_ending: bool,
}

impl Default for Unasked {
    fn default() -> Unasked {
        Unasked { held: Vec::new(), is_passing: false, at_line_start: true, after_cr: false, is_ending: false }
    }
}

impl Unasked {
    pub fn new() -> Unasked {
        Unasked::default()
    }

    /// What of these bytes, and of those that were held back, may pass. Usually the same bytes.
    pub fn push(&mut self, bytes: Bytes) -> Bytes {
        let before = self.held.len();
        let ends = self.ends(&bytes);
        let bytes = if before == 0 {
            bytes
        } else {
            self.held.extend_from_slice(&bytes);
            Bytes::from(std::mem::take(&mut self.held))
        };
        let mut passed = Passed { bytes: &bytes, copy: None, from: 0 };
        let mut start = 0;
        for end in ends {
            let end = before + end;
            if !std::mem::take(&mut self.is_passing) && states_usage(&bytes[start..end]) {
                passed.leave_out(start, end);
            }
            start = end;
        }
        let rest = bytes.len() - start;
        self.is_passing |= rest > MAX_HELD;
        let end = if self.is_passing { bytes.len() } else { start };
        self.held = bytes[end..].to_vec();
        passed.until(end)
    }

    /// What is still held back when the stream has ended.
    pub fn finish(self) -> Bytes {
        if states_usage(&self.held) { Bytes::new() } else { self.held.into() }
    }

    /// Behind which of these bytes an event ends.
    fn ends(&mut self, bytes: &[u8]) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if std::mem::take(&mut self.after_cr) {
                let is_lf = bytes[at] == b'\n';
                if std::mem::take(&mut self.is_ending) {
                    ends.push(at + usize::from(is_lf));
                }
                if is_lf {
                    at += 1;
                    continue;
                }
            }
            let Some(end) = memchr::memchr2(b'\r', b'\n', &bytes[at..]) else {
                self.at_line_start = false;
                break;
            };
            let is_empty = end == 0 && self.at_line_start;
            at += end + 1;
            self.after_cr = bytes[at - 1] == b'\r';
            self.at_line_start = true;
            if is_empty && self.after_cr {
                self.is_ending = true;
            } else if is_empty {
                ends.push(at);
            }
        }
        ends
    }
}

/// The bytes that pass: the same as long as nothing was left out.
struct Passed<'a> {
    bytes: &'a Bytes,
    copy: Option<Vec<u8>>,
    from: usize,
}

impl Passed<'_> {
    fn leave_out(&mut self, start: usize, end: usize) {
        self.copy.get_or_insert_default().extend_from_slice(&self.bytes[self.from..start]);
        self.from = end;
    }

    fn until(self, end: usize) -> Bytes {
        match self.copy {
            None => self.bytes.slice(..end),
            Some(mut copy) => {
                copy.extend_from_slice(&self.bytes[self.from..end]);
                copy.into()
            }
        }
    }
}

/// Whether an event is the chunk that states the usage: one that has no choices but has usage.
fn states_usage(event: &[u8]) -> bool {
    // Nearly no chunk gets past these looks.
    if memmem::find(event, b"\"usage\"").is_none() || !(has_no_choices(event) || has_lines(event)) {
        return false;
    }
    let mut data = Vec::new();
    for line in event.split(|byte| matches!(byte, b'\r' | b'\n')) {
        if let Some(part) = line.strip_prefix(b"data:") {
            data.extend_from_slice(part);
            data.push(b'\n');
        }
    }
    let Ok(Value::Object(chunk)) = serde_json::from_slice(&data) else { return false };
    let has_no_choices = chunk.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty);
    has_no_choices && chunk.get("usage").is_some_and(Value::is_object) && !chunk.contains_key("error")
}

/// Whether the data may be in several lines, so that anything may stand between a key and its value.
fn has_lines(event: &[u8]) -> bool {
    memmem::find_iter(event, b"data:").nth(1).is_some()
}

fn has_no_choices(event: &[u8]) -> bool {
    let mut keys = memmem::find_iter(event, b"\"choices\"");
    keys.any(|at| {
        let rest = event[at + b"\"choices\"".len()..].iter().filter(|byte| !byte.is_ascii_whitespace());
        rest.take(3).eq(b":[]")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HI: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi \\\"usage\\\" \"}}],\"usage\":null}\n\n";
    const USAGE: &str =
        "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    /// What passes of a stream that is cut every `size` bytes.
    fn passed(stream: &str, size: usize) -> String {
        let mut filter = Unasked::new();
        let mut passed = Vec::new();
        for chunk in stream.as_bytes().chunks(size) {
            passed.extend_from_slice(&filter.push(Bytes::copy_from_slice(chunk)));
        }
        passed.extend_from_slice(&filter.finish());
        String::from_utf8(passed).expect("UTF-8")
    }

    #[track_caller]
    fn check(stream: &str, expected: &str) {
        for size in 1..=stream.len() {
            assert_eq!(passed(stream, size), expected, "cut every {size} bytes");
        }
    }

    #[test]
    fn the_chunk_that_states_the_usage_is_left_out_and_nothing_else() {
        check(&[HI, HI, USAGE, DONE].concat(), &[HI, HI, DONE].concat());
    }

    #[test]
    fn it_is_known_by_its_meaning_and_not_by_its_spelling() {
        let spelt = "data:{ \"usage\" : {} , \"choices\" : [ ] }\n\n";
        check(&[HI, spelt, DONE].concat(), &[HI, DONE].concat());
        let lines = "event: message\ndata: {\"choices\":\ndata: [],\"usage\":{}}\n\n";
        check(&[HI, lines, DONE].concat(), &[HI, DONE].concat());
    }

    #[test]
    fn what_only_looks_like_it_passes() {
        for other in [
            // Azure's first chunk.
            "data: {\"choices\":[],\"prompt_filter_results\":[],\"usage\":null}\n\n",
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
            // OpenRouter states the usage beside a choice.
            "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"choices\\\":[] \\\"usage\\\":{}\"}}]}\n\n",
            "data: {\"choices\":[],\"usage\":{},\"error\":{\"message\":\"no\"}}\n\n",
            "data: {\"choices\":[],\"usage\":{}\n\n",
            "data: {\"x\":{\"choices\":[],\"usage\":{}}}\n\n",
            ": \"usage\" \"choices\":[]\n\n",
            "\n\n\r\r\n",
        ] {
            let stream = [HI, other, DONE].concat();
            check(&stream, &stream);
        }
    }

    #[test]
    fn lines_may_end_in_any_way() {
        for end in ["\r", "\r\n"] {
            let [hi, usage, done] = [HI, USAGE, DONE].map(|event| event.replace('\n', end));
            check(&[&*hi, &usage, &done].concat(), &[hi, done].concat());
        }
    }

    #[test]
    fn the_end_of_the_stream_ends_the_last_event() {
        check(&[HI, USAGE.trim_end()].concat(), HI);
        let half = [HI, &USAGE[..40]].concat();
        check(&half, &half);
    }

    #[test]
    fn whole_events_pass_without_being_copied() {
        let mut filter = Unasked::new();
        let bytes = Bytes::from([HI, HI].concat());
        assert_eq!(filter.push(bytes.clone()).as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn a_long_event_passes_before_its_end_and_the_next_is_looked_at_again() {
        let long = format!("data: {{\"choices\":[],\"usage\":{{\"x\":\"{}\"}}}}\n\n", "x".repeat(2 * MAX_HELD));
        let mut filter = Unasked::new();
        let first = filter.push(Bytes::copy_from_slice(&long.as_bytes()[..MAX_HELD + 1]));
        assert_eq!(first.len(), MAX_HELD + 1, "it does not wait");
        let rest = [&long[MAX_HELD + 1..], USAGE, DONE].concat();
        assert_eq!(filter.push(rest.into()), [&long[MAX_HELD + 1..], DONE].concat());
    }

    proptest! {
        #![proptest_config(crate::wire::fuzz::config(20_000))]

        #[test]
        fn cuts_make_no_difference(
            parts in prop::collection::vec(prop::sample::select(vec![
                HI, USAGE, DONE, "\r\n", "\n", "\r", ": ping\n\n", "data: ", "{\"choices\":[],\"usage\":{}}", "\"usage\"", "é",
            ]), 0..12),
            size in 1_usize..200,
        ) {
            let stream = parts.concat();
            let cut = passed(&stream, size);
            prop_assert_eq!(&cut, &passed(&stream, stream.len().max(1)));
            prop_assert!(cut.len() <= stream.len());
            if !stream.contains("\"choices\":[]") {
                prop_assert_eq!(cut, stream);
            }
        }
    }
}
