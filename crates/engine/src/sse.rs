//! Server-sent events, read from bytes as they come.
//!
//! Bytes become lines, lines become fields, fields become [`Frame`]s. How the bytes were cut into chunks makes no
//! difference: a line ends in LF, CR or CRLF wherever the border falls, and text is decoded only once its line is
//! whole, so a character that was split over two chunks is never damaged. The parser cannot panic, and both a line and
//! a frame have a greatest length, so an upstream cannot fill our memory.

use thiserror::Error;

/// The longest line, in bytes, without its end.
pub const MAX_LINE: usize = 1 << 20;
/// The longest data of one frame, in bytes.
pub const MAX_DATA: usize = 4 << 20;

/// One event of the stream: something that had data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The type, if the stream named one.
    pub event: Option<String>,
    /// The lines of data, joined by LF.
    pub data: String,
    /// The last id that the stream gave, in this frame or an earlier one.
    pub id: Option<String>,
    /// After how many milliseconds the stream asks to be called again, if this frame said so.
    pub retry_ms: Option<u64>,
    /// Whether something was not UTF-8 and stands there as U+FFFD.
    pub lossy: bool,
}

/// Why a stream cannot be read on. The frames before it stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SseError {
    #[error("a line of the stream is longer than {MAX_LINE} bytes")]
    LineTooLong,
    #[error("an event of the stream is longer than {MAX_DATA} bytes")]
    FrameTooLong,
}

#[derive(Debug, Default)]
pub struct Parser {
    /// The line that has begun, in raw bytes.
    line: Vec<u8>,
    /// The last byte was CR, so an LF that comes next belongs to it.
    after_cr: bool,
    /// A byte order mark may stand before the first line and nowhere else.
    past_first_line: bool,
    frame: Frame,
    has_data: bool,
    comments: u64,
    broken: Option<SseError>,
}

impl Parser {
    pub fn new() -> Parser {
        Parser::default()
    }

    /// Reads the next bytes and appends the frames that they complete, in order.
    ///
    /// An error is final: it is repeated for everything that comes after.
    pub fn push(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), SseError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let read = loop {
            if self.after_cr && !bytes.is_empty() {
                self.after_cr = false;
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            let end = memchr::memchr2(b'\r', b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > MAX_LINE {
                break Err(SseError::LineTooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if let Err(error) = self.end_line(frames) {
                break Err(error);
            }
        };
        self.broken = read.err();
        read
    }

    /// Takes the stream's end for the end of its last line and frame, for servers that forget the blank line.
    ///
    /// What comes out may be half of what was meant; the caller knows whether it makes sense.
    pub fn finish(&mut self) -> Option<Frame> {
        if self.broken.is_some() {
            return None;
        }
        let mut frames = Vec::new();
        if !self.line.is_empty() {
            self.broken = self.end_line(&mut frames).err();
        }
        self.end_frame(&mut frames);
        frames.pop()
    }

    /// How many comments there were so far. Servers send them to say that they are still at work.
    pub fn comments(&self) -> u64 {
        self.comments
    }

    fn end_line(&mut self, frames: &mut Vec<Frame>) -> Result<(), SseError> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.past_first_line, true) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        let read = self.read_line(&line, frames);
        // The buffer is used again: most lines of a stream are of a size.
        line.clear();
        self.line = line;
        read
    }

    fn read_line(&mut self, line: &[u8], frames: &mut Vec<Frame>) -> Result<(), SseError> {
        if line.is_empty() {
            self.end_frame(frames);
            return Ok(());
        }
        let text = String::from_utf8_lossy(line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => {
                self.comments += 1;
                return Ok(());
            }
            "data" => {
                if self.frame.data.len() + value.len() + 1 > MAX_DATA {
                    return Err(SseError::FrameTooLong);
                }
                if self.has_data {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
                self.has_data = true;
            }
            "event" => self.frame.event = Some(value.to_owned()).filter(|event| !event.is_empty()),
            "id" if !value.contains('\0') => self.frame.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => self.frame.retry_ms = value.parse().ok(),
            // Fields that nobody has defined are ignored, as the standard asks.
            _ => return Ok(()),
        }
        self.frame.lossy |= matches!(text, std::borrow::Cow::Owned(_));
        Ok(())
    }

    fn end_frame(&mut self, frames: &mut Vec<Frame>) {
        let next = Frame { id: self.frame.id.clone(), ..Frame::default() };
        let frame = std::mem::replace(&mut self.frame, next);
        if std::mem::take(&mut self.has_data) {
            frames.push(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that came out of a stream: its frames, the one that only its end completed, and why it broke.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Read {
        frames: Vec<Frame>,
        last: Option<Frame>,
        comments: u64,
        error: Option<SseError>,
    }

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Read {
        let mut parser = Parser::new();
        let mut frames = Vec::new();
        let error = chunks.into_iter().find_map(|chunk| parser.push(chunk, &mut frames).err());
        Read { last: parser.finish(), frames, comments: parser.comments(), error }
    }

    fn data(stream: impl AsRef<[u8]>) -> Vec<String> {
        read([stream.as_ref()]).frames.into_iter().map(|frame| frame.data).collect()
    }

    /// Cuts `bytes` where `cuts` say, taken modulo what is left.
    fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut chunks = Vec::new();
        let mut rest = bytes;
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut % (rest.len() + 1));
            chunks.push(chunk);
            rest = after;
        }
        chunks.push(rest);
        chunks
    }

    #[test]
    fn lines_end_in_lf_cr_or_both_also_in_one_stream() {
        for stream in [
            "data: a\n\ndata: b\n\n",
            "data: a\r\rdata: b\r\r",
            "data: a\r\n\r\ndata: b\r\n\r\n",
            "data: a\r\n\ndata: b\n\r\n",
            "data: a\r\r\ndata: b\n\r",
        ] {
            assert_eq!(data(stream), ["a", "b"], "{stream:?}");
        }
    }

    #[test]
    fn a_crlf_that_is_split_over_two_chunks_is_one_end() {
        let whole = read([b"data: a\r\ndata: b\r\n\r\n".as_slice()]);
        let split = read([b"data: a\r".as_slice(), b"\ndata: b\r", b"", b"\n", b"\r", b"\n"]);
        assert_eq!(split, whole);
        assert_eq!(whole.frames.len(), 1);
        assert_eq!(whole.frames[0].data, "a\nb");
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        let stream = "retry: 1500\nevent: delta\nid: 7\ndata:no space\ndata:  two spaces\ndata\nnonsense: x\n\n\
                      id: a\0b\nretry: 1s\ndata: next\n\n";
        let frames = read([stream.as_bytes()]).frames;
        assert_eq!(
            frames,
            [
                Frame {
                    event: Some("delta".into()),
                    data: "no space\n two spaces\n".into(),
                    id: Some("7".into()),
                    retry_ms: Some(1500),
                    lossy: false,
                },
                Frame { data: "next".into(), id: Some("7".into()), ..Frame::default() },
            ],
        );
    }

    #[test]
    fn a_frame_without_data_is_none_but_empty_data_is_data() {
        assert_eq!(data("event: ping\n\n\n\nid: 3\n\ndata\n\n"), [""]);
    }

    #[test]
    fn comments_are_counted_and_nothing_else() {
        let read = read([b": OPENROUTER PROCESSING\n\n:\ndata: x\n: between\n\n".as_slice()]);
        assert_eq!(read.comments, 3);
        assert_eq!(read.frames.len(), 1);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_start_and_only_there() {
        assert_eq!(data("\u{feff}data: a\n\n\u{feff}data: b\n\ndata: \u{feff}c\n\n"), ["a", "\u{feff}c"]);
        let split = read([b"\xef".as_slice(), b"\xbb", b"\xbfdata: a\n\n"]);
        assert_eq!(split.frames[0].data, "a");
    }

    #[test]
    fn the_end_of_the_stream_ends_what_has_begun() {
        let read = read([b"data: a\n\ndata: b".as_slice()]);
        assert_eq!(read.frames.len(), 1);
        assert_eq!(read.last.map(|frame| frame.data), Some("b".into()));
        assert_eq!(super::Parser::new().finish(), None);
    }

    #[test]
    fn a_character_that_is_split_over_chunks_is_whole_and_a_broken_one_is_marked() {
        let parrot = "data: 앵무새 🦜\n\n".as_bytes();
        let bytewise = read(parrot.chunks(1));
        assert_eq!(bytewise.frames[0].data, "앵무새 🦜");
        assert!(!bytewise.frames[0].lossy);
        let broken = read([b"data: \xed\x95".as_slice(), b"\ndata: fine\n\ndata: next\n\n"]);
        assert_eq!(broken.frames[0].data, "\u{fffd}\nfine");
        assert!(broken.frames[0].lossy);
        assert!(!broken.frames[1].lossy);
    }

    #[test]
    fn a_line_has_a_greatest_length_however_it_comes() {
        let longest = [b"data: ok\n\n:".as_slice(), &vec![b'x'; MAX_LINE - 1], b"\n\n"].concat();
        assert_eq!(read([longest.as_slice()]).error, None);
        let too_long = [b"data: ok\n\n:".as_slice(), &vec![b'x'; MAX_LINE], b"\n\ndata: never\n\n"].concat();
        for size in [too_long.len(), 1 << 16, 1021] {
            let read = read(too_long.chunks(size));
            assert_eq!(read.error, Some(SseError::LineTooLong));
            assert_eq!(read.frames.len(), 1, "what came before stands");
            assert_eq!(read.last, None);
        }
    }

    #[test]
    fn a_frame_has_a_greatest_length_too() {
        let line = [b"data: ".as_slice(), &vec![b'x'; 1 << 19], b"\n"].concat();
        let read = read(std::iter::repeat_n(line.as_slice(), 20));
        assert_eq!(read.error, Some(SseError::FrameTooLong));
        assert_eq!(read.last, None);
    }

    #[test]
    fn an_error_is_final() {
        let mut parser = Parser::new();
        let mut frames = Vec::new();
        assert!(parser.push(&vec![b'x'; MAX_LINE + 1], &mut frames).is_err());
        assert_eq!(parser.push(b"\n\ndata: a\n\n", &mut frames), Err(SseError::LineTooLong));
        assert_eq!(frames, []);
    }

    /// Streams that look like streams, with every kind of mistake.
    fn any_stream() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"data:".to_vec()),
            Just(b"data: {\"a\":1}".to_vec()),
            Just(b"event: x".to_vec()),
            Just(b"id: 1".to_vec()),
            Just(b"retry: 10".to_vec()),
            Just(b":".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n\n".to_vec()),
            Just(b"\xef\xbb\xbf".to_vec()),
            Just("한🦜".as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn the_borders_of_chunks_make_no_difference(
            stream in any_stream(),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let whole = read([stream.as_slice()]);
            prop_assert_eq!(read(cut(&stream, &cuts)), whole.clone());
            prop_assert_eq!(read(stream.chunks(1)), whole);
        }
    }

    #[test]
    fn a_hundred_thousand_random_streams_are_read_without_a_panic() {
        use rand::{RngExt, SeedableRng};
        let words: [&[u8]; 12] =
            [b"data", b":", b" ", b"\n", b"\r", b"\r\n", b"id", b"event", b"retry", b"\xef\xbb\xbf", b"\xff", b"1"];
        let mut rng = rand::rngs::SmallRng::seed_from_u64(37);
        let mut frames = 0;
        for round in 0..if crate::wire::is_fuzzed_long() { 1_000_000 } else { 100_000 } {
            let length = rng.random_range(0..64);
            let bytes: Vec<u8> = if round % 2 == 0 {
                (0..length).map(|_| rng.random()).collect()
            } else {
                (0..length).flat_map(|_| words[rng.random_range(0..words.len())]).copied().collect()
            };
            let read = read(bytes.chunks(rng.random_range(1..=64)));
            frames += read.frames.len();
            assert_eq!(read.error, None, "nothing this short is too long");
        }
        assert!(frames > 5_000, "half of them are made of words, so that many make sense: {frames}");
    }
}
