//! The YouTube search, an odd guest, kept in its own room.
//!
//! [`wish`] recognises that somebody asks for a video, in three languages and with the usual misspellings;
//! [`YouTube::first_video`] finds one. Neither needs a key: the search reads the page that a browser would get, and
//! where that page has nothing it reads the one of another search engine.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::header::{ACCEPT, ACCEPT_LANGUAGE};
use reqwest::{Client, Url};
use salon_engine::upstream::guarded_client;
use tokio::time::timeout;

/// For each of the two pages, with the connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// As much of a page as we read: the first video stands far above this.
const MAX_PAGE: usize = 2 << 20;
/// The longest query that is passed on, in characters.
const MAX_QUERY: usize = 200;
/// The longest text that can be a wish, in characters. Whoever writes more wants to talk about it.
const MAX_WISH: usize = 200;
const ID_LENGTH: usize = 11;

/// Reads the query out of a text that asks for a video: one that names YouTube and asks to find or show something.
///
/// A command is never a wish, and neither is a text that quotes a YouTube address: that one is about a video which
/// somebody has already found. `None` also where nothing is left to search for.
pub fn wish(text: &str) -> Option<String> {
    let text = text.trim();
    let lower = text.to_lowercase();
    let quotes = ["://", "youtu.be/", "youtube.com", "/watch?"].iter().any(|part| lower.contains(part));
    if text.starts_with('/') || quotes || text.chars().count() > MAX_WISH || is_question(&lower) {
        return None;
    }
    let mut named = false;
    let mut asked = false;
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let (before, name) = split_name(word);
        named |= name.is_some();
        for part in [before, name.unwrap_or_default()] {
            let (part, is_request) = split_request(part);
            asked |= is_request;
            words.extend(Some(part).filter(|part| !part.is_empty()));
        }
    }
    if !named || !asked {
        return None;
    }
    // Filler words go only from the ends: in the middle they belong to what is searched for.
    // What is quoted is meant, whatever it is.
    let is_filler = |word: &str| {
        let word = word.trim_matches(STOPS).to_lowercase();
        bare(&word).is_empty() || FILLERS.contains(&word.as_str())
    };
    let mut words = words.as_slice();
    while let Some((_, rest)) = words.split_first().filter(|(first, _)| is_filler(first)) {
        words = rest;
    }
    while let Some((_, rest)) = words.split_last().filter(|(last, _)| is_filler(last)) {
        words = rest;
    }
    let query = words.join(" ");
    let query = query.trim_matches(STOPS).trim();
    (!query.is_empty()).then(|| query.to_owned())
}

const STOPS: [char; 7] = [',', '.', '!', '?', ':', ';', '…'];

/// How people write the name, in lower case; in Korean with the misspellings that everybody makes.
const NAMES: [&str; 8] = ["youtube", "유튜브", "유투브", "유트브", "유트뷰", "ютуб", "ютюб", "ютьюб"];

/// What Korean hangs on a noun.
const PARTICLES: [&str; 12] = ["에서", "에", "로", "으로", "의", "를", "을", "은", "는", "가", "도", "에서의"];

/// Whole words that ask, in lower case.
const REQUESTS: [&str; 7] = ["search", "find", "show", "recommend", "recommends", "recommendation", "recommendations"];

/// Beginnings of words that ask.
const REQUEST_STEMS: [&str; 11] =
    ["найд", "найт", "поищ", "ищи", "поиск", "покаж", "показать", "посовет", "порекоменд", "рекоменд", "подбер"];

/// Korean verbs that ask, wherever they stand in a word: what follows them is an ending, such as `-줘` or `-주세요`.
const REQUEST_VERBS: [&str; 4] = ["찾아", "검색", "추천", "보여"];

/// Words that say nothing about what is searched for, if they stand at an end of it.
#[rustfmt::skip]
const FILLERS: &[&str] = &[
    "a", "an", "the", "me", "us", "for", "on", "from", "in", "at", "of", "about", "with", "some", "any", "video",
    "videos", "clip", "clips", "please", "pls", "can", "could", "would", "you", "i", "want", "like", "to", "watch",
    "and", "good", "hey", "hi", "let's", "let", "give",
    "미리", "보기", "미리보기", "형식", "형식으로", "영상", "영상을", "영상들", "동영상", "동영상을", "비디오", "비디오를",
    "좀", "하나", "하나만", "관련", "관련된", "관한", "대한", "링크", "링크를", "줘", "줘요", "주세요", "줄래", "줄래요",
    "해줘", "해줘요", "해주세요", "해", "해봐", "봐", "봐줘", "나", "나한테", "저", "저한테", "것", "거", "걸", "부탁해",
    "부탁해요", "부탁합니다",
    "на", "в", "во", "с", "из", "по", "мне", "нам", "пожалуйста", "видео", "видосы", "видос", "видосик", "ролик",
    "ролики", "видеоролик", "клип", "про", "о", "об", "обо", "какое-нибудь", "что-нибудь", "хочу", "можешь", "ли", "и",
];

/// Takes the name of YouTube out of a word, with the particle that hangs on it. Answers with what stood before it and,
/// if it was there, with what is left after it.
fn split_name(word: &str) -> (&str, Option<&str>) {
    for name in NAMES {
        let Some((before, after)) = split_at_ignoring_case(word, name) else { continue };
        let after = after.strip_prefix("'s").or(after.strip_prefix("’s")).unwrap_or(after);
        // `YouTuber` and `youtube-dl` are other things.
        let goes_on = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
        if name.is_ascii() && after.starts_with(goes_on) {
            continue;
        }
        let kept = match bare(after) {
            tail if tail.is_empty() || PARTICLES.contains(&tail) => "",
            tail if tail.starts_with(|char| matches!(char, 'а'..='я')) => "",
            _ => after.strip_prefix("에서").unwrap_or(after),
        };
        return (before, Some(kept));
    }
    (word, None)
}

/// Takes the request out of a word, with its ending. Answers with what stood before it, and whether it was there.
fn split_request(word: &str) -> (&str, bool) {
    if let Some((before, _)) = REQUEST_VERBS.iter().find_map(|verb| word.split_once(verb)) {
        return (before, true);
    }
    let plain = bare(word).to_lowercase();
    let asks = REQUESTS.contains(&plain.as_str()) || REQUEST_STEMS.iter().any(|stem| plain.starts_with(stem));
    if asks { ("", true) } else { (word, false) }
}

/// Whether it asks how or why something is: the answer to that is no video.
fn is_question(lower: &str) -> bool {
    let mut words = lower.split_whitespace().map(bare);
    let asks = match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
        ("how", second) => second != "to",
        ("как", second) => !second.ends_with("ть"),
        (first, _) => [
            "why",
            "what",
            "when",
            "who",
            "which",
            "is",
            "are",
            "do",
            "does",
            "did",
            "was",
            "were",
            "will",
            "should",
            "почему",
            "зачем",
            "что",
            "кто",
            "когда",
            "왜",
        ]
        .contains(&first),
    };
    lower.ends_with('?') && (asks || lower.contains("어떻게"))
}

/// A word without the marks around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|char: char| !char.is_alphanumeric())
}

/// The text before and after the first `needle`, which is in lower case.
fn split_at_ignoring_case<'a>(text: &'a str, needle: &str) -> Option<(&'a str, &'a str)> {
    text.char_indices().find_map(|(start, _)| {
        let mut rest = text[start..].chars();
        let same = needle.chars().all(|wanted| rest.next().is_some_and(|char| char.to_lowercase().eq([wanted])));
        same.then(|| (&text[..start], rest.as_str()))
    })
}

/// Finds videos on two pages: YouTube's own results, and those of an engine like DuckDuckGo.
#[derive(Clone, Debug)]
pub struct YouTube {
    client: Client,
    search_url: Url,
    fallback_url: Url,
    patience: Duration,
}

impl YouTube {
    /// `search_url` is where `/results` is, `fallback_url` where `/html/` is.
    pub fn new(search_url: &str, fallback_url: &str) -> anyhow::Result<YouTube> {
        let search_url = page(search_url, &["results"]).context("the address of the video search")?;
        let fallback_url = page(fallback_url, &["html", ""]).context("the address of the other video search")?;
        let client = guarded_client(&[&search_url, &fallback_url], |builder| builder.connect_timeout(PATIENCE))?;
        Ok(YouTube { client, search_url, fallback_url, patience: PATIENCE })
    }

    /// Waits for each page this long instead of ten seconds.
    pub fn with_patience(self, patience: Duration) -> YouTube {
        YouTube { patience, ..self }
    }

    /// Finds the first video and answers with its bare watch address. `None` if there is no such video.
    ///
    /// The other search is asked if YouTube's page has no video or cannot be had. It is a fault only if neither could
    /// be read.
    pub async fn first_video(&self, query: &str) -> anyhow::Result<Option<String>> {
        let query: String = query.trim().chars().take(MAX_QUERY).collect();
        if query.is_empty() {
            return Ok(None);
        }
        let found = self.read(&self.search_url, ("search_query", &query)).await.map(|page| find_video_id(&page));
        if let Ok(Some(id)) = found {
            return Ok(Some(watch(&id)));
        }
        let other = self.read(&self.fallback_url, ("q", &format!("{query} site:youtube.com"))).await;
        match (found, other) {
            (_, Ok(page)) => Ok(find_watch_id(&page).map(|id| watch(&id))),
            (Ok(_), Err(error)) => {
                tracing::debug!(%error, "the other video search does not answer");
                Ok(None)
            }
            (Err(first), Err(second)) => bail!("{first:#}; {second:#}"),
        }
    }

    /// Reads as much of a page as we look at. Its address is not part of what can go wrong: it contains the query.
    async fn read(&self, page: &Url, (name, query): (&str, &str)) -> anyhow::Result<Vec<u8>> {
        let mut url = page.clone();
        url.query_pairs_mut().append_pair(name, query);
        let read = async {
            let request = self.client.get(url).header(ACCEPT, "text/html").header(ACCEPT_LANGUAGE, "en, *;q=0.5");
            let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
            ensure!(response.status().is_success(), "the search answered with {}", response.status().as_u16());
            let mut body = Vec::new();
            while let Some(bytes) = response.chunk().await.map_err(reqwest::Error::without_url)? {
                let room = MAX_PAGE - body.len();
                body.extend_from_slice(&bytes[..bytes.len().min(room)]);
                if body.len() == MAX_PAGE {
                    break;
                }
            }
            Ok(body)
        };
        timeout(self.patience, read).await.context("the search took too long")?
    }
}

fn page(base: &str, path: &[&str]) -> anyhow::Result<Url> {
    let mut url = Url::parse(base.trim()).context("cannot be read")?;
    ensure!(matches!(url.scheme(), "http" | "https"), "is neither http nor https");
    url.path_segments_mut().map_err(|()| anyhow::anyhow!("cannot have a path"))?.pop_if_empty().extend(path);
    Ok(url)
}

fn watch(id: &str) -> String {
    format!("https://www.youtube.com/watch?v={id}")
}

/// The first `"videoId":"…"` of a page.
fn find_video_id(page: &[u8]) -> Option<String> {
    ends_of(page, b"\"videoId\"").find_map(|rest| {
        let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
        let (id, rest) = id_at(rest)?;
        rest.starts_with(b"\"").then_some(id)
    })
}

/// The first watch address of a page, also where it is encoded inside a redirect.
fn find_watch_id(page: &[u8]) -> Option<String> {
    let page = percent_decoded(page);
    ends_of(&page, b"youtube.com/watch?v=").find_map(|rest| id_at(rest).map(|(id, _)| id))
}

/// The texts after each `needle`, in order.
fn ends_of<'a>(page: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    page.windows(needle.len())
        .enumerate()
        .filter(move |(_, window)| *window == needle)
        .map(|(at, _)| &page[at + needle.len()..])
}

/// The video id that stands here, and what follows it.
fn id_at(text: &[u8]) -> Option<(String, &[u8])> {
    let is_of_id = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let length = text.iter().take_while(|byte| is_of_id(byte)).count();
    let (id, rest) = text.split_at(length);
    (length == ID_LENGTH).then(|| (String::from_utf8_lossy(id).into_owned(), rest))
}

/// Decodes `%3D` and the like, once. What is no such thing stays as it is.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let pair = after.first_chunk::<2>().and_then(|[high, low]| Some(digit(high)? * 16 + digit(low)?));
        match pair.filter(|_| byte == b'%').and_then(|value| u8::try_from(value).ok()) {
            Some(value) => {
                decoded.push(value);
                rest = &after[2..];
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    decoded
}
