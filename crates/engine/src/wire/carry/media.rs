//! Pictures, documents and recordings: as `data:` URLs, by their types.

use crate::wire::talk::{Kind, Media, Source};

/// Reads what stands where a URL is expected: a `data:` URL is content, everything else an address.
pub(in crate::wire) fn from_url(url: String) -> (Option<String>, Source) {
    let data = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).map(|_| &url[5..]);
    let Some((kind, data)) = data.and_then(|rest| rest.split_once(',')) else { return (None, Source::Url(url)) };
    let mut words = kind.split(';').map(str::trim);
    let mime = words.next().filter(|mime| !mime.is_empty()).map(str::to_ascii_lowercase);
    if words.any(|word| word.eq_ignore_ascii_case("base64")) {
        (mime, Source::Base64(data.to_owned()))
    } else {
        // Content in percents is rare and nobody reads it: it is refused as an address that cannot be opened.
        (None, Source::Url(url))
    }
}

/// The `data:` URL or the address.
pub(in crate::wire) fn to_url(media: &Media) -> String {
    match &media.source {
        Source::Url(url) => url.clone(),
        Source::Base64(data) => {
            let mime = media.mime.as_deref().unwrap_or_else(|| guess(media.kind));
            format!("data:{mime};base64,{data}")
        }
        Source::Text(text) => format!("data:text/plain;base64,{}", base64(text.as_bytes())),
    }
}

/// What kind of thing a type is.
pub(in crate::wire) fn kind_of(mime: &str) -> Kind {
    match mime.split('/').next().unwrap_or_default() {
        "image" => Kind::Image,
        "audio" => Kind::Audio,
        "video" => Kind::Video,
        _ => Kind::Document,
    }
}

/// The likeliest type, where nobody said one and another wire demands one.
pub(in crate::wire) fn guess(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image/png",
        Kind::Document => "application/pdf",
        Kind::Audio => "audio/wav",
        Kind::Video => "video/mp4",
    }
}

/// Whether an address is one that anybody can open, and not a name inside some provider's storage.
pub(in crate::wire) fn is_public(url: &str) -> bool {
    let web = ["https://", "http://"].iter().any(|scheme| url.get(..scheme.len()).is_some_and(|s| s == *scheme));
    web && !url.contains("generativelanguage.googleapis.com/")
}

pub(in crate::wire) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let c = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            text.push(if digit <= group.len() { char::from(c) } else { '=' });
        }
    }
    text
}

/// The text in some base64; `None` if it is none.
pub(in crate::wire) fn text_of_base64(data: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(data.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in data.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_url_is_content_and_another_an_address() {
        let read = |url: &str| from_url(url.to_owned());
        let content = |mime: Option<&str>, data: &str| (mime.map(str::to_owned), Source::Base64(data.to_owned()));
        assert_eq!(read("data:image/png;base64,QUJD"), content(Some("image/png"), "QUJD"));
        assert_eq!(read("DATA:Image/JPEG;charset=x;BASE64,QUJD"), content(Some("image/jpeg"), "QUJD"));
        assert_eq!(read("data:;base64,QUJD"), content(None, "QUJD"));
        for address in ["https://example.com/a.png", "data:text/plain,hi", "data:", "", "дата:"] {
            assert_eq!(read(address), (None, Source::Url(address.to_owned())));
        }
    }

    #[test]
    fn text_is_written_in_base64_as_the_standard_has_it() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(text_of_base64(coded).as_deref(), Some(plain));
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
        assert_eq!(text_of_base64("Zm9v\nYmFy"), Some("foobar".to_owned()));
        assert_eq!(text_of_base64("Zm9v*"), None);
        assert_eq!(text_of_base64("+//+"), None);
    }

    #[test]
    fn addresses_in_a_providers_storage_are_not_public() {
        assert!(is_public("https://example.com/cat.png"));
        for url in
            ["gs://bucket/cat.png", "https://generativelanguage.googleapis.com/v1beta/files/x", "file:///etc", ""]
        {
            assert!(!is_public(url), "{url}");
        }
    }
}
