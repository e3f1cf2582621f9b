//! The heads of requests and answers.

use std::mem::MaybeUninit;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, response};
use httparse::{ParserConfig, Status};

/// The most headers of an answer.
const HEADERS: usize = 100;

/// What is not the head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoHead;

/// The head of a request. Its values are checked when they are made, so that none of them can end a line.
pub(super) fn write(request: &Request<Bytes>) -> Bytes {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let headers = request.headers();
    let named: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let mut head = BytesMut::with_capacity(path.len() + named + 64);
    for part in [request.method().as_str(), " ", path, " HTTP/1.1\r\n"] {
        head.put_slice(part.as_bytes());
    }
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.put_slice(part);
        }
    }
    let length = request.body().len();
    if length > 0 || !matches!(*request.method(), Method::GET | Method::HEAD) {
        for part in [CONTENT_LENGTH.as_str(), ": ", &length.to_string(), "\r\n"] {
            head.put_slice(part.as_bytes());
        }
    }
    head.put_slice(b"\r\n");
    head.freeze()
}

/// Takes the head of an answer off what has come, if all of it is there.
pub(super) fn take(came: &mut BytesMut) -> Result<Option<response::Parts>, NoHead> {
    let mut room = [const { MaybeUninit::uninit() }; HEADERS];
    let mut said = httparse::Response::new(&mut []);
    let read = ParserConfig::default().parse_response_with_uninit_headers(&mut said, came, &mut room);
    let Status::Complete(end) = read.map_err(|_| NoHead)? else { return Ok(None) };
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.version = if said.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.status = said.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(NoHead)?;
    // Values are parts of what came, and not copies of it.
    let begin = came.as_ptr().addr();
    let place = |value: &[u8]| match value.as_ptr().addr().wrapping_sub(begin) {
        _ if value.is_empty() => 0..0,
        at => at..at + value.len(),
    };
    let named = said.headers.iter().map(|header| {
        HeaderName::from_bytes(header.name.as_bytes()).map(|name| (name, place(header.value))).map_err(|_| NoHead)
    });
    let named: Vec<_> = named.collect::<Result<_, _>>()?;
    let head = came.split_to(end).freeze();
    parts.headers.reserve(named.len());
    for (name, place) in named {
        parts.headers.append(name, HeaderValue::from_maybe_shared(head.slice(place)).map_err(|_| NoHead)?);
    }
    Ok(Some(parts))
}

/// Whether its sender wants to go on after this answer, and there is no doubt about where it ends.
pub(super) fn keeps(head: &response::Parts) -> bool {
    let is_clear = !(head.headers.contains_key(TRANSFER_ENCODING) && head.headers.contains_key(CONTENT_LENGTH));
    let mut said = head.headers.get_all(CONNECTION).iter();
    let closes = |value: &HeaderValue| {
        value.to_str().map_or(true, |value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")))
    };
    is_clear && head.version == Version::HTTP_11 && !said.any(closes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Result<Option<(u16, usize, String)>, NoHead> {
        let mut came = BytesMut::from(text);
        let parts = take(&mut came)?;
        let left = String::from_utf8_lossy(&came).into_owned();
        Ok(parts.map(|parts| (parts.status.as_u16(), parts.headers.len(), left)))
    }

    #[test]
    fn a_head_is_taken_once_it_is_whole() {
        let text = "HTTP/1.1 200 OK\r\na: 1\r\nA:\t2 \r\nb:\r\n\r\nrest";
        for end in 0..text.len() - 4 {
            assert_eq!(taken(&text[..end]), Ok(None), "{end}");
        }
        assert_eq!(taken(text), Ok(Some((200, 3, "rest".to_owned()))));
        assert_eq!(taken("HTTP/1.0 404\n\n"), Ok(Some((404, 0, String::new()))));
        let parts = take(&mut BytesMut::from(text)).expect("a head").expect("a whole one");
        let values: Vec<_> = parts.headers.get_all("a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(parts.headers["b"], "");
    }

    #[test]
    fn what_is_no_head_is_none() {
        for text in [
            "SSH-2.0",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: 1\r\n goes on\r\n\r\n",
            "HTTP/1.1 200 OK\r\na : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\na\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: 1\rb: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
        ] {
            assert_eq!(taken(text), Err(NoHead), "{text:?}");
        }
    }

    #[test]
    fn who_wants_to_close_is_not_kept() {
        for (text, keeps_on) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nconnection: keep-alive, x\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nconnection: x\r\nconnection: close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", false),
        ] {
            let parts = take(&mut BytesMut::from(text)).expect("a head").expect("a whole one");
            assert_eq!(keeps(&parts), keeps_on, "{text:?}");
        }
    }
}
