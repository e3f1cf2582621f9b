//! The video search: what counts as asking for it, and what it finds on which page.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use salon::youtube::{YouTube, wish};

#[test]
fn asking_for_a_video_is_recognised_in_three_languages() {
    for (text, query) in [
        // The two that programs rely on.
        ("python asyncio tutorial 유튜브 찾아줘", "python asyncio tutorial"),
        ("백종원 유투브 미리 보기 형식으로 보여줘", "백종원"),
        // Korean, with each spelling and request.
        ("유튜브에서 아이유 노래 영상 좀 찾아줘", "아이유 노래"),
        ("유트브 고양이 추천해줘", "고양이"),
        ("유트뷰로 김치찌개 만드는 법 검색해 주세요", "김치찌개 만드는 법"),
        ("재미있는 강아지 영상 유튜브 추천 좀 해줘", "재미있는 강아지"),
        ("유튜브에서백종원찾아줘", "백종원"),
        ("YouTube에서 손흥민 하이라이트 보여줄래?", "손흥민 하이라이트"),
        // English.
        ("find rust async tutorial on youtube", "rust async tutorial"),
        ("Show me a YouTube video about tying a tie, please!", "tying a tie"),
        ("youtube search lofi hip hop", "lofi hip hop"),
        ("Can you recommend some good videos on YouTube about woodworking?", "woodworking"),
        // A request is taken out wherever it stands.
        ("how to cook rice, find it on youtube", "how to cook rice, it"),
        ("please search YouTube for \"let it be\"", "\"let it be\""),
        ("YOUTUBE FIND CATS", "CATS"),
        ("search on youtube: tides, and lamps", "tides, and lamps"),
        ("dogs youtube, cats find", "dogs cats"),
        // Russian.
        ("найди на ютубе видео про котиков", "котиков"),
        ("Покажи ролик на YouTube о пингвинах, пожалуйста", "пингвинах"),
        ("посоветуй на ютюбе уроки гитары", "уроки гитары"),
        ("как завязать галстук ютуб найди", "как завязать галстук"),
        ("Поищи, пожалуйста, в Ютьюбе «Щелкунчик»", "«Щелкунчик»"),
    ] {
        assert_eq!(wish(text).as_deref(), Some(query), "{text}");
    }
}

#[test]
fn other_texts_are_no_wish() {
    for text in [
        "",
        "   ",
        "hi",
        "/youtube show cats",
        "  /yt 유튜브 찾아줘",
        "/mode youtube find",
        "I like YouTube",
        "유튜브 재미있다",
        "find me a recipe",
        "찾아줘",
        "найди рецепт борща",
        "Why does YouTube show so many ads?",
        "How do I find my YouTube channel id?",
        "유튜브에서 내 채널을 어떻게 찾아?",
        "Как найти свой канал на ютубе?",
        "YouTube is showing me ads",
        "Recommend me a YouTuber",
        "show me how youtube-dl works",
        "summarise and show the key points of https://www.youtube.com/watch?v=dQw4w9WgXcQ on youtube",
        "youtube search",
        "유튜브 영상 좀 찾아줘",
        "покажи видео на ютубе",
    ] {
        assert_eq!(wish(text), None, "{text}");
    }
    let essay = format!("find this on youtube {}", "word ".repeat(100));
    assert_eq!(wish(&essay), None, "an essay is no wish");
}

#[test]
fn nothing_that_people_write_breaks_it() {
    for text in [
        "İYouTubeİ find İ",
        "유튜브\u{0}찾아줘\u{0}x",
        "youtube’s find ’s",
        "🦜youtube🦜 find 🦜🦜",
        "% youtube find %zz",
    ] {
        wish(text);
    }
    assert_eq!(wish("youtube find a\u{0}b"), Some("a\u{0}b".to_owned()));
}

// ---- pages ----

type Seen = Arc<Mutex<Vec<String>>>;

/// Two pages on loopback: `/a/results` is YouTube's, `/b/html/` the other one's.
struct Pages {
    base: String,
    seen: Seen,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Pages {
    async fn start(results: Page, html: Page) -> Pages {
        let seen = Seen::default();
        let router = Router::new()
            .route("/a/results", get(show).with_state((seen.clone(), results)))
            .route("/b/html/", get(show).with_state((seen.clone(), html)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        Pages { base, seen, serving: tokio::spawn(axum::serve(listener, router).into_future()) }
    }

    fn youtube(&self) -> YouTube {
        YouTube::new(&format!("{}/a", self.base), &format!("{}/b/", self.base)).expect("good addresses")
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

#[derive(Clone)]
enum Page {
    Says(String),
    Status(u16),
    Redirect(&'static str),
    /// The head of a page, and then nothing.
    Hangs,
}

async fn show(State((seen, page)): State<(Seen, Page)>, uri: Uri, RawQuery(query): RawQuery) -> Response {
    seen.lock().expect("no panic").push(format!("{}?{}", uri.path(), query.unwrap_or_default()));
    match page {
        Page::Says(text) => text.into_response(),
        Page::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        Page::Redirect(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
        Page::Hangs => Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>()).into_response(),
    }
}

fn says(text: &str) -> Page {
    Page::Says(text.to_owned())
}

const CATS: &str = r#"<script>var ytInitialData = {"contents":[{"videoRenderer":{"videoId":"dQw4w9WgXcQ","title":"cats"}},{"videoRenderer":{"videoId":"aaaaaaaaaaa"}}]};</script>"#;

#[tokio::test]
async fn the_first_video_of_the_results_is_found() {
    let pages = Pages::start(says(CATS), Page::Status(500)).await;
    let found = pages.youtube().first_video("cats").await.expect("it answers");
    assert_eq!(found.as_deref(), Some("https://www.youtube.com/watch?v=dQw4w9WgXcQ"));
    assert_eq!(pages.seen(), ["/a/results?search_query=cats"]);
}

#[tokio::test]
async fn a_query_is_a_value_and_never_part_of_the_address() {
    let pages = Pages::start(says(CATS), Page::Status(500)).await;
    let youtube = pages.youtube();
    for query in ["a&b=c#d/../e?f", "백종원 요리", "100% \"quoted\"\r\nHost: x", "  "] {
        youtube.first_video(query).await.expect("it answers");
    }
    assert_eq!(
        pages.seen(),
        [
            "/a/results?search_query=a%26b%3Dc%23d%2F..%2Fe%3Ff",
            "/a/results?search_query=%EB%B0%B1%EC%A2%85%EC%9B%90+%EC%9A%94%EB%A6%AC",
            "/a/results?search_query=100%25+%22quoted%22%0D%0AHost%3A+x",
        ],
    );
}

#[tokio::test]
async fn what_looks_like_an_id_but_is_none_is_passed_over() {
    let page = r#""videoId":"short" "videoId":"much-too-long-to-be-one" "videoId":"bad<script>" "videoId":null
        "videoId" : "good_-Id123" "#;
    let pages = Pages::start(says(page), Page::Status(500)).await;
    let found = pages.youtube().first_video("x").await.expect("it answers");
    assert_eq!(found.as_deref(), Some("https://www.youtube.com/watch?v=good_-Id123"));
}

#[tokio::test]
async fn the_other_search_is_asked_where_youtube_has_nothing_or_does_not_answer() {
    let redirect = "<a class=\"result__a\" href=\"//duckduckgo.com/l/?uddg=https%3A%2F%2Fwww.youtube.com%2Fwatch%3Fv%3Dabc_DEF%2D123&amp;rut=1\">";
    let plain = "<a href=\"https://www.youtube.com/watch?v=tooshort\">x</a> <a href=\"https://m.youtube.com/watch?v=abc_DEF-123&amp;t=5\">";
    for results in [says("<html>no videos"), Page::Status(429), Page::Redirect("https://consent.invalid/")] {
        for html in [redirect, plain] {
            let pages = Pages::start(results.clone(), says(html)).await;
            let found = pages.youtube().first_video("a b").await.expect("it answers");
            assert_eq!(found.as_deref(), Some("https://www.youtube.com/watch?v=abc_DEF-123"), "{html}");
            assert_eq!(pages.seen()[1], "/b/html/?q=a+b+site%3Ayoutube.com");
        }
    }
}

#[tokio::test]
async fn no_video_is_no_fault_and_no_answer_is_one() {
    for (results, html) in [
        (says(""), says("")),
        (says(""), Page::Status(503)),
        (Page::Status(503), says("100%, %zz, %, youtube.com/watch?v=")),
    ] {
        let pages = Pages::start(results, html).await;
        assert_eq!(pages.youtube().first_video("x").await.expect("one answered"), None);
    }
    let pages = Pages::start(Page::Status(503), Page::Redirect("/elsewhere")).await;
    let error = pages.youtube().first_video("my secret hobby").await.expect_err("neither answered");
    assert_eq!(format!("{error:#}"), "the search answered with 503; the search answered with 302");
    let base = pages.base.clone();
    drop(pages);
    let youtube = YouTube::new(&base, &base).expect("good addresses").with_patience(Duration::from_millis(200));
    let error = youtube.first_video("my secret hobby").await.expect_err("nobody is there");
    assert!(!format!("{error:#}").contains("hobby"), "{error:#}");
}

#[tokio::test]
async fn a_page_that_never_ends_or_never_comes_is_left() {
    let endless = format!("{}{CATS}", "x".repeat(2 << 20));
    let early = format!("{CATS}{}", "x".repeat(8 << 20));
    let far = Pages::start(Page::Says(endless), says("")).await;
    assert_eq!(far.youtube().first_video("x").await.expect("it answers"), None, "two megabytes are enough");
    let near = Pages::start(Page::Says(early), says("")).await;
    assert!(near.youtube().first_video("x").await.expect("it answers").is_some());
    let hanging = Pages::start(Page::Hangs, Page::Hangs).await;
    let youtube = hanging.youtube().with_patience(Duration::from_millis(100));
    let error = youtube.first_video("x").await.expect_err("it took too long");
    assert_eq!(
        format!("{error:#}"),
        "the search took too long: deadline has elapsed; the search took too long: deadline has elapsed"
    );
}

#[test]
fn an_address_that_is_none_is_refused_at_once() {
    for address in ["", "youtube.com", "ftp://example.invalid", "data:text/html,x"] {
        assert!(YouTube::new(address, "https://example.invalid").is_err(), "{address}");
        assert!(YouTube::new("https://example.invalid", address).is_err(), "{address}");
    }
}
