//! As much of HTTP/1.1 as the bench speaks with itself.

/// Where a head ends and its body begins.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// What a head says of the length of its body.
pub fn length(head: &[u8]) -> Option<usize> {
    header(head, "content-length")?.parse().ok()
}

/// What a head says under a name.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(head).ok()?;
    let mut fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nx-y: z\r\n\r\nabc";
        let end = head_end(bytes).expect("an end");
        assert_eq!(&bytes[end..], b"abc");
        assert_eq!(length(&bytes[..end]), Some(3));
        assert_eq!(header(&bytes[..end], "X-Y"), Some("z"));
        assert_eq!(head_end(&bytes[..20]), None);
    }
}
