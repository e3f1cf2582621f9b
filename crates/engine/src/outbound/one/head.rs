//! The heads of requests and answers.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, response};

/// The most headers of an answer.
const HEADERS: usize = 100;
/// What every head of an answer begins with.
const BEGINNING: &[u8] = b"HTTP/1.";

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
    let begun = came.len().min(BEGINNING.len());
    if came[..begun] != BEGINNING[..begun] {
        return Err(NoHead);
    }
    match end(came) {
        Some(end) => read(&came.split_to(end).freeze()).map(Some),
        None => Ok(None),
    }
}

/// Where the empty line ends, behind which the body begins.
fn end(came: &[u8]) -> Option<usize> {
    let mut lines =
        memchr::memchr_iter(b'\n', came).scan(0, |begins, at| Some((std::mem::replace(begins, at + 1), at)));
    lines.find(|(begins, at)| matches!(&came[*begins..*at], b"" | b"\r")).map(|(_, at)| at + 1)
}

fn read(head: &Bytes) -> Result<response::Parts, NoHead> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.version, parts.status) = lines.next().and_then(status).ok_or(NoHead)?;
    for line in lines.take_while(|line| !line.is_empty()) {
        // A line that goes on with the one before begins with a blank, and so with no name.
        let colon = memchr::memchr(b':', line).ok_or(NoHead)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| NoHead)?;
        let value = head.slice_ref(line[colon + 1..].trim_ascii());
        if parts.headers.len() == HEADERS {
            return Err(NoHead);
        }
        parts.headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| NoHead)?);
    }
    Ok(parts)
}

fn status(line: &[u8]) -> Option<(Version, StatusCode)> {
    let rest = line.strip_prefix(BEGINNING)?;
    let version = match rest.first()? {
        b'1' => Version::HTTP_11,
        b'0' => Version::HTTP_10,
        _ => return None,
    };
    let (code, reason) = rest[1..].strip_prefix(b" ")?.split_at_checked(3)?;
    let status = StatusCode::from_bytes(code).ok()?;
    matches!(reason.first(), None | Some(b' ')).then_some((version, status))
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
