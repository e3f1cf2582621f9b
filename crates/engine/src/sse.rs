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
