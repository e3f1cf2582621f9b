//! Where the body of an answer ends.

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{StatusCode, Version, response};

use crate::upstream::Fault;

/// As much may stand around the pieces of an answer that means nothing here.
const SPARE: u16 = 32 << 10;

/// How much of an answer's body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::outbound) enum Rest {
    Nothing,
    Length(u64),
    Chunks(Chunks),
    /// Its sender closes the connection behind it.
    UntilEnd,
}

/// Where in a body of chunks we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::outbound) struct Chunks {
    place: Place,
    spare: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The length of a chunk begins.
    Begin,
    Length(u64),
    /// Behind the length there is something else in the line.
    Extension(u64),
    LengthEnds(u64),
    /// So much of the chunk is to come.
    Data(u64),
    DataEnds,
    DataEnded,
    /// Behind the last chunk: a line begins.
    Trailer,
    InTrailer,
    /// A line ends; whether it was empty.
    TrailerEnds(bool),
    Over,
}

impl Rest {
    /// By what the head says. An answer whose end two readers may find at two places is none; where it comes in chunks,
    /// everybody agrees that its length does not matter, but see [`keeps`](super::head::keeps).
    pub(super) fn of(head: &response::Parts) -> Result<Rest, Fault> {
        if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Rest::Nothing);
        }
        let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
        let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
        match (codings.next(), lengths.next()) {
            (Some(coding), _) if codings.next().is_none() && head.version == Version::HTTP_11 => {
                let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
                let chunks = Chunks { place: Place::Begin, spare: SPARE };
                if chunked { Ok(Rest::Chunks(chunks)) } else { Err(Fault::Garbled) }
            }
            (None, Some(length)) if lengths.all(|other| other == length) => {
                let digits = length.to_str().ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
                let length = digits.and_then(|digits| digits.parse().ok()).ok_or(Fault::Garbled)?;
                Ok(if length == 0 { Rest::Nothing } else { Rest::Length(length) })
            }
            (None, None) => Ok(Rest::UntilEnd),
            _ => Err(Fault::Garbled),
        }
    }

    pub(in crate::outbound) fn is_over(&self) -> bool {
        matches!(self, Rest::Nothing | Rest::Chunks(Chunks { place: Place::Over, .. }))
    }

    /// How many bytes are still to come, if that is known.
    pub(in crate::outbound) fn length(&self) -> Option<u64> {
        match self {
            Rest::Length(length) => Some(*length),
            Rest::Chunks(_) | Rest::UntilEnd => None,
            Rest::Nothing => Some(0),
        }
    }

    /// Takes the next piece of the body off what has come, if there is one.
    pub(super) fn take(&mut self, heard: &mut Bytes) -> Result<Option<Bytes>, Fault> {
        if let Rest::Chunks(chunks) = self {
            chunks.walk(heard)?;
        }
        let piece = match self {
            Rest::Nothing => return Ok(None),
            Rest::Length(length) | Rest::Chunks(Chunks { place: Place::Data(length), .. }) => first(heard, length),
            Rest::Chunks(_) => None,
            Rest::UntilEnd => Some(std::mem::take(heard)).filter(|piece| !piece.is_empty()),
        };
        match self {
            Rest::Length(0) => *self = Rest::Nothing,
            // So that the end is seen with the last piece, if it came with it. What is wrong there is told by the next look.
            Rest::Chunks(chunks) if piece.is_some() => drop(chunks.walk(heard)),
            _ => {}
        }
        Ok(piece)
    }
}

/// The first bytes, as many as there are and no more than `length`, from which they are taken off.
fn first(heard: &mut Bytes, length: &mut u64) -> Option<Bytes> {
    let part = usize::try_from(*length).map_or(heard.len(), |length| length.min(heard.len()));
    *length -= part as u64;
    // What is empty would hold on to the bytes.
    let piece = if part == heard.len() { std::mem::take(heard) } else { heard.split_to(part) };
    Some(piece).filter(|piece| !piece.is_empty())
}

impl Chunks {
    /// Goes over what is not the body's, up to its next byte or its end.
    fn walk(&mut self, heard: &mut Bytes) -> Result<(), Fault> {
        while let Some(byte) = heard.first().copied() {
            if self.place == Place::Data(0) {
                self.place = Place::DataEnds;
            }
            if matches!(self.place, Place::Data(_) | Place::Over) {
                return Ok(());
            }
            // Where the pieces cannot be told apart, the answer has broken off.
            self.place = self.place.after(byte).ok_or(Fault::Cut)?;
            if matches!(self.place, Place::Extension(_) | Place::InTrailer) {
                self.spare = self.spare.checked_sub(1).ok_or(Fault::Cut)?;
            }
            heard.advance(1);
        }
        *heard = Bytes::new();
        Ok(())
    }
}

impl Place {
    fn after(self, byte: u8) -> Option<Place> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        Some(match (self, byte, digit) {
            (Place::Begin, _, Some(digit)) => Place::Length(digit),
            (Place::Length(length), _, Some(digit)) => Place::Length(length.checked_mul(16)?.checked_add(digit)?),
            (Place::Length(length), b';' | b' ' | b'\t', _) => Place::Extension(length),
            (Place::Length(length) | Place::Extension(length), b'\r', _) => Place::LengthEnds(length),
            (Place::Extension(_), b'\n', _) => return None,
            (Place::Extension(length), ..) => Place::Extension(length),
            (Place::LengthEnds(0), b'\n', _) => Place::Trailer,
            (Place::LengthEnds(length), b'\n', _) => Place::Data(length),
            (Place::DataEnds, b'\r', _) => Place::DataEnded,
            (Place::DataEnded, b'\n', _) => Place::Begin,
            (Place::Trailer, b'\r', _) => Place::TrailerEnds(true),
            (Place::InTrailer, b'\r', _) => Place::TrailerEnds(false),
            (Place::Trailer | Place::InTrailer, ..) => Place::InTrailer,
            (Place::TrailerEnds(true), b'\n', _) => Place::Over,
            (Place::TrailerEnds(false), b'\n', _) => Place::Trailer,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    fn rest(headers: &str) -> Result<Rest, Fault> {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
        let head = super::super::head::take(&mut BytesMut::from(head.as_str())).expect("a head").expect("a whole one");
        Rest::of(&head)
    }

    /// What a body says that comes in these pieces; and what came behind it.
    fn told(mut rest: Rest, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), Fault> {
        let (mut told, mut behind) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut heard = Bytes::copy_from_slice(piece);
            while let Some(piece) = rest.take(&mut heard)? {
                told.extend_from_slice(&piece);
            }
            assert!(heard.is_empty() || rest.is_over(), "nothing of it is left lying");
            behind.extend_from_slice(&heard);
        }
        if rest.is_over() { Ok((told, behind)) } else { Err(Fault::Silent) }
    }

    #[test]
    fn the_head_says_where_the_body_ends() {
        assert_eq!(rest("content-length: 0\r\n"), Ok(Rest::Nothing));
        assert_eq!(rest("content-length: 12\r\nContent-Length: 12\r\n"), Ok(Rest::Length(12)));
        assert_eq!(rest(""), Ok(Rest::UntilEnd));
        assert!(matches!(rest("transfer-encoding: Chunked\r\n"), Ok(Rest::Chunks(_))));
        assert!(matches!(rest("content-length: 1\r\ntransfer-encoding: chunked\r\n"), Ok(Rest::Chunks(_))));
        for unclear in [
            "content-length: 1\r\ncontent-length: 2\r\n",
            "content-length: 1, 1\r\n",
            "content-length: +1\r\n",
            "content-length:\r\n",
            "content-length: 99999999999999999999\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        ] {
            assert_eq!(rest(unclear), Err(Fault::Garbled), "{unclear:?}");
        }
    }

    #[test]
    fn the_end_is_seen_with_the_last_piece() {
        let mut rest = rest("transfer-encoding: chunked\r\n").expect("chunks");
        let mut heard = Bytes::from_static(b"2;x=y\r\nhi\r\n0\r\nx: y\r\n\r\n");
        assert_eq!(rest.take(&mut heard), Ok(Some(Bytes::from_static(b"hi"))));
        assert!(rest.is_over() && heard.is_empty());
    }

    #[test]
    fn chunks_that_cannot_be_told_apart_break_the_answer_off() {
        let long = format!("1;{}", "x".repeat(40 << 10));
        for garbled in
            ["hello", "\r\n", ";\r\n", "1\n", "1;a\nb", "1\r\nab", "1\r\na\n", "10000000000000000\r\n", "-1\r\n", &long]
        {
            let rest = rest("transfer-encoding: chunked\r\n").expect("chunks");
            assert_eq!(told(rest, &[garbled.as_bytes()]), Err(Fault::Cut), "{:?}", &garbled[..garbled.len().min(20)]);
        }
    }

    proptest! {
        #[test]
        fn chunks_say_the_same_however_they_are_cut(
            said in prop::collection::vec("[a-f0-9\r\n]{1,40}", 0..8),
            cuts in prop::collection::vec(0_usize..400, 0..12),
        ) {
            let mut body = String::new();
            for chunk in &said {
                body.push_str(&format!("{:X}; x\r\n{chunk}\r\n", chunk.len()));
            }
            body.push_str("0\r\na: b\r\n\r\nHTTP");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([0, body.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &body.as_bytes()[pair[0]..pair[1]]).collect();
            let rest = rest("transfer-encoding: chunked\r\n").expect("chunks");
            prop_assert_eq!(told(rest, &pieces), Ok((said.concat().into_bytes(), b"HTTP".to_vec())));
        }
    }
}
