//! Runs of agents that behave: they are started, heard, told something, and end.

use std::time::Duration;

use salon_engine::sandbox::{How, Lack, Sandbox, Settings};

use crate::Test;
use crate::house::{House, all_lines};

pub const TESTS: &[Test] = &[
    ("runs::an_agent_is_told_and_heard", an_agent_is_told_and_heard),
    ("runs::a_stop_is_heard_and_leaves_nobody", a_stop_is_heard_and_leaves_nobody),
    ("runs::what_does_not_stop_is_ended", what_does_not_stop_is_ended),
    ("runs::without_bubblewrap_nothing_runs", without_bubblewrap_nothing_runs),
    ("runs::a_start_takes_little", a_start_takes_little),
];

fn an_agent_is_told_and_heard(house: &House) {
    house.run(async {
        let mut confined = house.start(&["echo", "7"]).await;
        confined.write("alice").await;
        confined.write("bob \u{1F99C}").await;
        assert_eq!(confined.next().await.unwrap().text, "heard alice");
        assert_eq!(confined.next().await.unwrap().text, "heard bob \u{1F99C}");
        confined.close_input().await;
        let ended = confined.ended().await;
        assert_eq!((ended.how, ended.code), (How::Exit(7), Some(7)));
        assert_eq!(ended.errors, "that was all\n");
        assert!(confined.next().await.is_none());
    });
}

fn a_stop_is_heard_and_leaves_nobody(house: &House) {
    house.run(async {
        let mut confined = house.start(&["wait"]).await;
        assert_eq!(confined.next().await.unwrap().text, "waiting");
        let ended = confined.stop().await;
        assert_eq!(ended.how, How::Stopped);
    });
}

fn what_does_not_stop_is_ended(house: &House) {
    house.run(async {
        let mut cell = house.cell(&["deaf"]);
        cell.limits.grace = Duration::from_millis(300);
        let mut confined = house.sandbox().await.start(cell).await.unwrap();
        assert_eq!(confined.next().await.unwrap().text, "waiting");
        let begun = tokio::time::Instant::now();
        let ended = confined.stop().await;
        assert_eq!(ended.how, How::Stopped);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    });
}

fn without_bubblewrap_nothing_runs(house: &House) {
    house.run(async {
        let settings = Settings { bwrap: None, ..house.settings() };
        assert_eq!(Sandbox::probe(settings).await.unwrap_err(), Lack::NoBubblewrap);
        let settings = Settings { bwrap: Some("/usr/bin/false".into()), ..house.settings() };
        assert!(matches!(Sandbox::probe(settings).await, Err(Lack::Silent(_))));
    });
}

fn a_start_takes_little(house: &House) {
    house.run(async {
        let sandbox = house.sandbox().await;
        let mut took = Vec::new();
        for _ in 0..20 {
            let begun = tokio::time::Instant::now();
            let mut confined = sandbox.start(house.cell(&["hello"])).await.unwrap();
            assert_eq!(all_lines(&mut confined).await, ["hello"]);
            took.push(begun.elapsed());
            assert_eq!(confined.ended().await.how, How::Exit(0));
        }
        took.sort();
        println!("start to first line and end: median {:?}, worst {:?}", took[10], took[19]);
        assert!(took[10] < Duration::from_millis(1000), "{took:?}");
    });
}
