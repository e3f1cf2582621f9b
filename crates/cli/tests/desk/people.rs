//! People: made, changed, linked, blocked, removed.

use std::time::Duration;

use salon::people::DEFAULT_ORG;
use salon_core::people::Role;
use salon_core::{OrgId, Time, UserId};
use salon_store::Realm;
use salon_store::ledger::UsageFilter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::stage::{PATIENCE, Stage, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_made_changed_blocked_and_removed() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let new = [("name", "Carol"), ("email", "carol@birds.example"), ("role", "manager"), ("password", "")];
    let made = admin.post("/admin/users", &new).await;
    made.is(201).says("Carol comes in with this password");
    // A form that is not right comes again as it was filled in.
    admin.post("/admin/users", &new).await.is(422).says("carol@birds.example").says("e-email");
    let weak = [("name", "Dan"), ("email", "dan@birds.example"), ("role", "user"), ("password", "short")];
    admin.post("/admin/users", &weak).await.is(422).says("e-password").says("value=\"Dan\"");
    let invited = admin.post("/admin/users/invite", &[("role", "user")]).await;
    let at = invited.is(201).body.find("/join/").expect("an address");
    let word = &invited.body[at..at + "/join/".len() + 43];
    ask(stage.address, "GET", word, "Accept: text/html\r\n", "").await.is(200);
    assert!(!admin.get("/admin/users").await.body.contains("/join/"));

    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let page = format!("/admin/users/{}", bob.user);
    admin.get(&page).await.is(200).says("bob@birds.example");
    admin.get("/admin/users?q=BOB").await.is(200).says("Bob");
    assert!(!admin.get("/admin/users?q=nobody").await.body.contains("bob@birds.example"));
    bob.get("/start").await.is(200);
    admin.post(&format!("{page}/toggle"), &[]).await.leads_to(&format!("{page}?done=blocked"));
    assert!(bob.get("/start").await.location().starts_with("/login"));
    admin.post(&format!("{page}/toggle"), &[]).await.leads_to(&format!("{page}?done=unblocked"));
    // What was open stays closed.
    assert!(bob.get("/start").await.location().starts_with("/login"));

    let reach = format!("{page}/reach");
    admin.post(&reach, &[("until", "2020-01-31"), ("models", "gpt-*")]).await.leads_to(&format!("{page}?done=saved"));
    let account =
        stage.house.salon.store.read().await.expect("a reader").find_account(&bob.user).await.expect("a look");
    let account = account.expect("an account");
    assert!(!account.may_enter(stage.house.salon.clock.now()) && account.models.as_deref() == Some("gpt-*"));
    admin.post(&reach, &[("until", "whenever"), ("models", "a b")]).await.is(422).says("e-until").says("whenever");
    admin.post(&reach, &[("until", ""), ("models", "")]).await.leads_to(&format!("{page}?done=saved"));

    let again = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let logins = stage.house.salon.store.read().await.expect("a reader").list_logins(&bob.user).await.expect("logins");
    let end = format!("{page}/logins/{}/end", logins[0].id);
    admin.post(&end, &[]).await.leads_to(&format!("{page}?done=ended"));
    assert!(again.get("/start").await.location().starts_with("/login"));
    admin.post(&end, &[]).await.is(404);

    // The last administrator stays one.
    let own = format!("/admin/users/{}", admin.user);
    admin.post(&own, &[("name", "Alice"), ("email", ""), ("role", "user")]).await.is(422).says("last administrator");
    admin.post(&format!("{own}/toggle"), &[]).await.is(422);
    admin.post(&format!("{own}/remove"), &[]).await.is(422);
    admin.post(&format!("{page}/remove"), &[]).await.leads_to("/admin/users?done=removed");
    admin.get(&page).await.is(404);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_before_a_link_is_theirs_afterwards() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let limit = [("scope", "user"), ("measure", "requests"), ("period", "day"), ("amount", "3"), ("policy", "block")];
    admin.post("/admin/limits", &limit).await.leads_to("/admin/limits?done=limit_added");
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    for words in ["storks fly", "herons stand"] {
        stage.say(7005, words).await;
        // The parrot says it back.
        stage.chat_says_twice(7005, words).await;
    }
    let salon = &stage.house.salon;
    let used = async |user: &UserId| {
        let filter = UsageFilter {
            user: Some(user.clone()),
            ..UsageFilter::of(OrgId::new(DEFAULT_ORG), Time(0), Time(i64::MAX))
        };
        stage.house.relay.book.flush().await.expect("flush");
        salon.store.read().await.expect("a reader").usage(&filter).await.expect("usage").calls
    };
    let before = salon.store.read().await.expect("a reader").find_user_of_telegram(7005).await.expect("a look");
    let before = before.expect("they are known by what they said").id;
    assert_eq!((used(&before).await, used(&bob.user).await), (2, 0));
    assert!(!bob.get("/dialogs").await.body.contains("storks fly"));

    let code = salon.make_code(&bob.user).await.expect("a code").word;
    stage.say(7005, &code).await;
    stage.chat_says(7005, "Here you are Bob from now on").await;
    bob.get("/dialogs").await.is(200).says("storks fly");
    assert_eq!((used(&before).await, used(&bob.user).await), (0, 2));
    admin.get(&format!("/admin/logs?user={}", bob.user)).await.says("storks fly").says("herons stand");
    admin.get("/admin/audit").await.says(before.as_str());
    // What was used counts: one more is left, here and there together.
    stage.say(7005, "parrots talk").await;
    stage.chat_says_twice(7005, "parrots talk").await;
    stage.say(7005, "nobody sings").await;
    stage.chat_says(7005, "limit of 3 requests").await;
    assert_eq!((used(&before).await, used(&bob.user).await), (0, 3));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_more_by_unlinking_and_linking_again() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let limit = [("scope", "user"), ("measure", "requests"), ("period", "day"), ("amount", "3"), ("policy", "block")];
    admin.post("/admin/limits", &limit).await.leads_to("/admin/limits?done=limit_added");
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let salon = &stage.house.salon;
    let link = async || {
        let code = salon.make_code(&bob.user).await.expect("a code").word;
        stage.say(7006, &code).await;
        let patience = Instant::now() + PATIENCE;
        while salon.store.read().await.expect("a reader").find_link(7006).await.expect("a look").is_none() {
            assert!(Instant::now() < patience, "{}", stage.chat(7006).await);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    let unlink = async || bob.post("/start/links/7006/remove", &[]).await.leads_to("/start?done=unlinked");
    let answered = async |words: &str| {
        stage.say(7006, words).await;
        stage.chat_says_twice(7006, words).await;
        stage.house.relay.book.flush().await.expect("flush");
    };
    let refused = async |words: &str, times: usize| {
        stage.say(7006, words).await;
        let patience = Instant::now() + PATIENCE;
        while stage.chat(7006).await.matches("limit of 3 requests").count() < times {
            assert!(Instant::now() < patience, "{}", stage.chat(7006).await);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    link().await;
    answered("one stork").await;
    answered("two storks").await;
    // By themselves they go on where they were, and one more is left.
    unlink().await;
    answered("three storks").await;
    refused("four storks", 1).await;
    link().await;
    refused("five storks", 2).await;
    unlink().await;
    refused("six storks", 3).await;
    // They are who they were at the first time, and no third person.
    let people = salon.store.read().await.expect("a reader").list_users(Some(&OrgId::new(DEFAULT_ORG))).await;
    let people = people.expect("people").into_iter().filter(|user| user.telegram == Some(7006)).count();
    assert_eq!(people, 1);
    let used = UsageFilter::of(OrgId::new(DEFAULT_ORG), Time(0), Time(i64::MAX));
    let used = salon.store.read().await.expect("a reader").usage(&used).await.expect("usage");
    assert_eq!(used.calls, 3, "what was carried is in no report");
    assert_eq!(stage.house.relay.book.check().await.expect("a check"), []);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_ends_what_is_open() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let said = bob.post("/dialogs", &[("text", "Tell me a long story."), ("engine", "storyteller")]).await;
    let place = said.location().split('#').next().expect("a place").to_owned();
    let page = bob.get(&place).await;
    let stream =
        page.body.split("data-stream=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a stream").to_owned();
    let mut open = TcpStream::connect(stage.address).await.expect("the door is open");
    let request = format!("GET {stream} HTTP/1.1\r\nHost: salon.test\r\nCookie: {}\r\n\r\n", bob.cookie);
    open.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut first = [0; 64];
    let read = open.read(&mut first).await.expect("an answer");
    assert!(first[..read].starts_with(b"HTTP/1.1 200"));
    admin.post(&format!("/admin/users/{}/toggle", bob.user), &[]).await.is(303);
    // The stream ends while its answer is still written: the last chunk comes, and no frame that it is whole.
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(2), async {
        while !rest.ends_with(b"0\r\n\r\n") && open.read_buf(&mut rest).await.expect("a stream") > 0 {}
    });
    ended.await.expect("the stream ends within two seconds");
    assert!(!String::from_utf8_lossy(&rest).contains("event: whole"), "{}", String::from_utf8_lossy(&rest));
    assert!(bob.get("/start").await.location().starts_with("/login"));
    stage.close().await;
}
