//! The audit: nothing is changed without a line, and no line is changed unnoticed.

#[path = "people/cast.rs"]
#[expect(dead_code, reason = "this file needs a part of the cast")]
mod cast;

use std::sync::Arc;

use salon::audit::anchors::{self, Anchors};
use salon::audit::{self, Flaw, Verdict, note};
use salon::logins::{NotIn, Shown};
use salon::people::{self, DEFAULT_ORG, PeopleError, UserChange};
use salon::{Action, Actor, Deed, Salon};
use salon_core::mask::Mask;
use salon_core::people::Role;
use salon_core::{OrgId, User};
use salon_store::testing::{Scratch, tamper};
use salon_store::{AuditFilter, AuditLine, Error, Place, Realm, Store, on_both_databases};

use cast::{person, salon};

on_both_databases! {
    what_is_done_stands_in_the_audit
    a_mask_is_told_with_the_organisation
    an_aborted_change_leaves_no_line
    lines_can_be_neither_changed_nor_removed
    a_changed_line_is_found_whatever_was_changed
    a_missing_line_and_swapped_lines_are_found
    an_end_that_was_cut_off_is_found_by_the_anchor
    an_anchor_is_made_when_it_is_due
    many_who_write_at_once_write_one_chain
    whoever_comes_in_or_does_not_is_told
}

async fn lines(store: &Store) -> Vec<AuditLine> {
    let mut lines = store.read().await.expect("read").list_audit(&AuditFilter::default(), 1_000).await.expect("lines");
    lines.reverse();
    lines
}

async fn told(store: &Store) -> Vec<String> {
    lines(store).await.iter().map(|line| format!("{} {} {}", line.actor, line.action, line.result)).collect()
}

async fn verdict(salon: &Salon) -> Verdict {
    audit::verify(&salon.store, &salon.keys, &[]).await.expect("a verdict")
}

async fn cast_of_three(store: &Store) -> (Arc<Salon>, User) {
    let salon = salon(store).await;
    let alice = person(&salon, "alice", Role::Admin).await;
    person(&salon, "bob", Role::User).await;
    person(&salon, "carol", Role::User).await;
    (salon, alice)
}

async fn what_is_done_stands_in_the_audit(Scratch { store, .. }: Scratch) {
    let (salon, alice) = cast_of_three(&store).await;
    let change = UserChange { role: Some(Role::Manager), ..UserChange::default() };
    let bob = people::find_user(&store, "bob").await.expect("bob");
    people::set_user(&store, &salon.pen(&alice.id), &bob.id, change.clone()).await.expect("changed");
    // What changes nothing is not told.
    people::set_user(&store, &salon.pen(&alice.id), &bob.id, change).await.expect("the same");
    people::remove_user(&store, &salon.pen(&alice.id), &bob.id).await.expect("removed");
    let lines = lines(&store).await;
    let done: Vec<_> = lines.iter().map(|line| (line.seq, line.actor.as_str(), line.action.as_str())).collect();
    let by = alice.id.as_str();
    assert_eq!(
        done,
        [
            (1, "operator", "user.added"),
            (2, "operator", "user.added"),
            (3, "operator", "user.added"),
            (4, by, "user.changed"),
            (5, by, "user.removed"),
        ]
    );
    assert_eq!(lines[3].detail, r#"{"role":["user","manager"]}"#);
    assert_eq!((lines[3].object.as_str(), lines[3].org.as_str()), (bob.id.as_str(), DEFAULT_ORG));
    let all = format!("{lines:?}");
    assert!(!all.contains("bob") && !all.contains("birds.example"), "no name can be forgotten: {all}");
    assert_eq!(verdict(&salon).await, Verdict { lines: 5, anchors: 0, flaw: None });
}

async fn a_mask_is_told_with_the_organisation(Scratch { store, .. }: Scratch) {
    let (salon, alice) = cast_of_three(&store).await;
    let before = lines(&store).await.len();
    let change = people::OrgChange { mask: Some(Mask::All), ..people::OrgChange::default() };
    people::set_org(&store, &salon.pen(&alice.id), DEFAULT_ORG, change).await.expect("changed");
    assert_eq!(people::mask_of(&store, &OrgId::new(DEFAULT_ORG)).await.expect("a mask"), Mask::All);
    let bad = people::OrgChange { zone: Some("Mars/Base"), mask: Some(Mask::Off), ..people::OrgChange::default() };
    people::set_org(&store, &salon.pen(&alice.id), DEFAULT_ORG, bad).await.expect_err("no such zone");
    assert_eq!(people::mask_of(&store, &OrgId::new(DEFAULT_ORG)).await.expect("a mask"), Mask::All);
    let new = lines(&store).await.split_off(before);
    assert_eq!(new.len(), 1, "{new:?}");
    let line = &new[0];
    assert_eq!((line.action.as_str(), line.actor.as_str()), ("org.changed", alice.id.as_str()));
    assert!(line.detail.contains(r#""mask":{"from":"off","to":"all"}"#), "{}", line.detail);
    assert_eq!(verdict(&salon).await.flaw, None);
}

async fn an_aborted_change_leaves_no_line(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::Admin).await;
    person(&salon, "bob", Role::User).await;
    let off = UserChange { active: Some(false), ..UserChange::default() };
    let refused = people::set_user(&store, &salon.pen(Actor::Operator), &alice.id, off).await;
    assert!(matches!(refused, Err(PeopleError::LastAdmin)));
    let aborted: Result<(), Error> = store
        .write(salon.pen(Actor::Operator), |tx, pen| {
            Box::pin(async move {
                note(tx, pen, Deed::new(Action::OrgAdded, &OrgId::new("fish"), "fish")).await?;
                Err(anyhow::anyhow!("it did not work").into())
            })
        })
        .await;
    aborted.expect_err("aborted");
    assert_eq!(told(&store).await.len(), 2);
    person(&salon, "carol", Role::User).await;
    assert_eq!(verdict(&salon).await, Verdict { lines: 3, anchors: 0, flaw: None });
}

async fn lines_can_be_neither_changed_nor_removed(Scratch { store, place, .. }: Scratch) {
    let (salon, _) = cast_of_three(&store).await;
    for statement in [
        "UPDATE audit SET actor = 'nobody' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "UPDATE audit SET seq = seq + 10",
    ] {
        let refused = tamper(&place, statement).await.expect_err(statement);
        assert!(refused.contains("only added to"), "{statement}: {refused}");
    }
    if let Place::Folder(_) = place {
        let replaced = "INSERT OR REPLACE INTO audit SELECT seq, at, 'nobody', org_id, action, object, result, detail, prev, mac \
                        FROM audit WHERE seq = 2";
        assert!(tamper(&place, replaced).await.expect_err("refused").contains("only added to"));
    } else {
        assert!(tamper(&place, "TRUNCATE audit").await.expect_err("refused").contains("only added to"));
    }
    assert_eq!(verdict(&salon).await, Verdict { lines: 3, anchors: 0, flaw: None });
    // Whoever opens the database once more finds the guards there, and makes them no second time.
    if let Place::Postgres(_) = place {
        Store::open(&place, "again").await.expect("opened").close().await;
        tamper(&place, "DELETE FROM audit").await.expect_err("still guarded");
    }
}

/// Somebody who owns the database takes the guards away first.
async fn force(place: &Place, sqlite: &'static str, postgres: &'static str) {
    let done = match place {
        Place::Folder(_) => {
            tamper(
                place,
                "DROP TRIGGER audit_keeps_lines; DROP TRIGGER audit_loses_no_line; DROP TRIGGER audit_replaces_no_line",
            )
            .await
            .ok();
            tamper(place, sqlite).await
        }
        Place::Postgres(_) => {
            tamper(place, "DROP TRIGGER IF EXISTS audit_is_only_added_to ON audit").await.expect("dropped");
            tamper(place, postgres).await
        }
    };
    done.expect("done by force");
}

async fn a_changed_line_is_found_whatever_was_changed(Scratch { store, place, .. }: Scratch) {
    let (salon, _) = cast_of_three(&store).await;
    const CHANGES: [(&str, &str); 9] = [
        ("UPDATE audit SET at = at + 1 WHERE seq = 2", "UPDATE audit SET at = at - 1 WHERE seq = 2"),
        ("UPDATE audit SET actor = 'operatoR' WHERE seq = 2", "UPDATE audit SET actor = 'operator' WHERE seq = 2"),
        ("UPDATE audit SET org_id = 'defaulT' WHERE seq = 2", "UPDATE audit SET org_id = 'default' WHERE seq = 2"),
        (
            "UPDATE audit SET action = 'user.removed' WHERE seq = 2",
            "UPDATE audit SET action = 'user.added' WHERE seq = 2",
        ),
        (
            "UPDATE audit SET object = object || 'x' WHERE seq = 2",
            "UPDATE audit SET object = SUBSTR(object, 1, LENGTH(object) - 1) WHERE seq = 2",
        ),
        ("UPDATE audit SET result = 'oK' WHERE seq = 2", "UPDATE audit SET result = 'ok' WHERE seq = 2"),
        (
            "UPDATE audit SET detail = detail || ' ' WHERE seq = 2",
            "UPDATE audit SET detail = SUBSTR(detail, 1, LENGTH(detail) - 1) WHERE seq = 2",
        ),
        (
            "UPDATE audit SET prev = prev || '0' WHERE seq = 2",
            "UPDATE audit SET prev = SUBSTR(prev, 1, LENGTH(prev) - 1) WHERE seq = 2",
        ),
        // A part that moves over the border between two columns.
        (
            "UPDATE audit SET action = action || 'o', result = 'k' WHERE seq = 2",
            "UPDATE audit SET action = 'user.added', result = 'ok' WHERE seq = 2",
        ),
    ];
    for (change, back) in CHANGES {
        force(&place, change, change).await;
        assert_eq!(verdict(&salon).await, Verdict { lines: 1, anchors: 0, flaw: Some(Flaw::Changed(2)) }, "{change}");
        force(&place, back, back).await;
        assert_eq!(verdict(&salon).await.flaw, None, "{back}");
    }
}

async fn a_missing_line_and_swapped_lines_are_found(Scratch { store, place, .. }: Scratch) {
    let (salon, _) = cast_of_three(&store).await;
    let swap = "UPDATE audit SET seq = -2 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3; \
                UPDATE audit SET seq = 3 WHERE seq = -2";
    force(&place, swap, swap).await;
    assert_eq!(verdict(&salon).await.flaw, Some(Flaw::Changed(2)));
    force(&place, swap, swap).await;
    assert_eq!(verdict(&salon).await.flaw, None);
    let last = "CREATE TABLE away AS SELECT * FROM audit WHERE seq = 3; DELETE FROM audit WHERE seq = 3";
    force(&place, last, last).await;
    assert_eq!(verdict(&salon).await.flaw, Some(Flaw::CutOff { last: 2, known: 3 }));
    let back = "INSERT INTO audit SELECT * FROM away; DELETE FROM audit WHERE seq = 2";
    force(&place, back, back).await;
    assert_eq!(verdict(&salon).await.flaw, Some(Flaw::Missing(2)));
}

async fn an_end_that_was_cut_off_is_found_by_the_anchor(Scratch { store, place, folder }: Scratch) {
    let (salon, _) = cast_of_three(&store).await;
    let mut anchors = Anchors::open(salon.clone(), folder.path().to_owned()).expect("anchors");
    salon.clock.wind(std::time::Duration::from_secs(600));
    assert!(anchors.make_when_due().await.expect("made"));
    let (made, strange) = anchors::read(folder.path()).expect("read");
    assert_eq!((made.len(), made[0].seq, strange), (1, 3, 0));
    let look = || async { audit::verify(&store, &salon.keys, &made).await.expect("a verdict") };
    assert_eq!(look().await, Verdict { lines: 3, anchors: 1, flaw: None });
    // Cleverly: also what says where the end is.
    let cut =
        "DELETE FROM audit WHERE seq = 3; UPDATE audit_head SET seq = 2, mac = (SELECT mac FROM audit WHERE seq = 2)";
    force(&place, cut, cut).await;
    assert_eq!(verdict(&salon).await.flaw, None, "without the anchor nobody would know");
    assert_eq!(look().await.flaw, Some(Flaw::CutOff { last: 2, known: 3 }));
    // And if another line is written in its place with the right key, the anchor knows better.
    person(&salon, "dora", Role::User).await;
    assert_eq!(verdict(&salon).await.flaw, None);
    assert_eq!(look().await.flaw, Some(Flaw::Anchor(3)));
}

async fn an_anchor_is_made_when_it_is_due(Scratch { store, folder, .. }: Scratch) {
    let salon = salon(&store).await;
    let mut anchors = Anchors::open(salon.clone(), folder.path().to_owned()).expect("anchors");
    salon.clock.wind(std::time::Duration::from_secs(3600));
    assert!(!anchors.make_when_due().await.expect("looked"), "there is nothing to be anchored");
    person(&salon, "alice", Role::Admin).await;
    assert!(anchors.make_when_due().await.expect("made"));
    person(&salon, "bob", Role::User).await;
    assert!(!anchors.make_when_due().await.expect("looked"), "too soon, and one line is few");
    let many: Result<(), Error> = store
        .write(salon.pen(Actor::Salon), |tx, pen| {
            Box::pin(async move {
                for n in 0..1_000 {
                    note(tx, pen, Deed::new(Action::SettingChanged, &OrgId::new(""), n)).await?;
                }
                Ok(())
            })
        })
        .await;
    many.expect("written");
    assert!(anchors.make_when_due().await.expect("made"), "a thousand lines are many");
    let made = anchors::read(folder.path()).expect("read").0;
    assert_eq!(made.iter().map(|anchor| anchor.seq).collect::<Vec<_>>(), [1, 1_002]);
    let looked = audit::verify(&store, &salon.keys, &made).await.expect("a verdict");
    assert_eq!(looked, Verdict { lines: 1_002, anchors: 2, flaw: None });
    // A restart goes on where the file ends.
    let mut again = Anchors::open(salon.clone(), folder.path().to_owned()).expect("anchors");
    salon.clock.wind(std::time::Duration::from_secs(3600));
    assert!(!again.make_when_due().await.expect("looked"));
}

async fn many_who_write_at_once_write_one_chain(Scratch { store, place, .. }: Scratch) {
    let salon = salon(&store).await;
    // A second process, where there can be one.
    let other = match &place {
        Place::Postgres(_) => cast::salon(&Store::open(&place, "other").await.expect("opened")).await,
        Place::Folder(_) => salon.clone(),
    };
    let tasks: Vec<_> = (0..200)
        .map(|n: usize| {
            let salon = if n.is_multiple_of(2) { salon.clone() } else { other.clone() };
            tokio::spawn(async move { person(&salon, &format!("bird-{n}"), Role::User).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task");
    }
    assert_eq!(verdict(&salon).await, Verdict { lines: 200, anchors: 0, flaw: None });
}

async fn whoever_comes_in_or_does_not_is_told(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let shown = |login, password| Shown {
        login,
        password,
        code: None,
        peer: Some(cast::peer()),
        browser: "curl/8",
        realm: Realm::House,
    };
    let invited = salon.first_invitation().await.expect("an invitation").expect("nobody is there yet");
    let alice = salon
        .register(salon::logins::Newcomer {
            name: "alice".to_owned(),
            email: "alice@birds.example".to_owned(),
            password: "seven grey storks".to_owned(),
            lang: None,
            pass: Some(invited.word.clone()),
        })
        .await
        .expect("registered");
    let wrong = salon.log_in(shown("alice@birds.example", "seven grey geese")).await;
    assert!(matches!(wrong, Err(NotIn::Wrong)));
    let nobody = salon.log_in(shown("hunter2-typed-here", "x")).await;
    assert!(matches!(nobody, Err(NotIn::Wrong)));
    let entered = salon.log_in(shown("alice@birds.example", "seven grey storks")).await.expect("in");
    assert!(salon.log_out(&alice.id, &entered.login.id).await.expect("out"));
    let by = alice.id.as_str();
    let expected = [
        "operator invitation.made ok".to_owned(),
        format!("{by} user.added ok"),
        "guest login.begin wrong".to_owned(),
        "guest login.begin wrong".to_owned(),
        format!("{by} login.begin ok"),
        format!("{by} login.end ok"),
    ];
    assert_eq!(told(&store).await, expected);
    let lines = lines(&store).await;
    assert_eq!((lines[2].object.as_str(), lines[3].object.as_str()), (by, ""));
    let all = format!("{lines:?}");
    for secret in ["hunter2", "storks", "geese", &entered.cookie, &invited.word] {
        assert!(!all.contains(secret), "{secret} stands in the audit");
    }
}
