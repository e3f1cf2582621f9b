//! What the property tests of the wires have in common: real texts, ways to damage them, and how often to try.

use proptest::prelude::*;

use super::Wire;

macro_rules! passing {
    ($($wire:ident $name:literal,)*) => {
        &[$((Wire::$wire, include_bytes!(concat!("../../tests/fixtures/passing/", $name)))),*]
    };
}

/// What clients ask.
pub(super) const REQUESTS: &[(Wire, &[u8])] = passing![
    Chat "chat.request.json",
    Completions "completions.request.json",
    Responses "responses.request.json",
    Messages "messages.request.json",
    Generate "generate.request.json",
    Embeddings "embeddings.request.json",
    Midm "midm.request.json",
];

/// What upstreams answer in events, or in an array that grows.
pub(super) const STREAMS: &[(Wire, &[u8])] = passing![
    Chat "chat.sse",
    Completions "completions.sse",
    Responses "responses.sse",
    Messages "messages.sse",
    Generate "generate.sse",
    Generate "generate.array.json",
    Midm "midm.sse",
];

/// What they answer at once.
pub(super) const ANSWERS: &[(Wire, &[u8])] = passing![
    Chat "chat.answer.json",
    Completions "completions.answer.json",
    Responses "responses.answer.json",
    Messages "messages.answer.json",
    Generate "generate.answer.json",
    Embeddings "embeddings.answer.json",
    Midm "midm.answer.json",
];

/// `runs` of a property. Builds that are not optimised do a tenth of them, `SALON_LONG` ten times as many.
pub(super) fn config(runs: u32) -> ProptestConfig {
    let runs = if cfg!(debug_assertions) { runs / 10 } else { runs };
    let runs = if is_long() { runs.saturating_mul(10) } else { runs };
    ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::with_cases(runs) }
}

#[expect(clippy::disallowed_methods, reason = "how long tests run is the environment's to say")]
pub(crate) fn is_long() -> bool {
    std::env::var("SALON_LONG").is_ok_and(|value| !matches!(&*value, "" | "0"))
}

/// One of the texts, with some damage or none, and its wire.
pub(super) fn damaged(texts: &'static [(Wire, &'static [u8])]) -> impl Strategy<Value = (Wire, Vec<u8>)> {
    (any::<prop::sample::Index>(), prop::collection::vec(any::<u64>(), 0..5)).prop_map(move |(which, wounds)| {
        let (wire, text) = texts[which.index(texts.len())];
        let mut text = text.to_vec();
        for wound in wounds {
            damage(&mut text, wound);
        }
        (wire, text)
    })
}

/// Does one of several evil things to a text, which one is in the number.
fn damage(text: &mut Vec<u8>, wound: u64) {
    const PIECES: [&[u8]; 24] = [
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n",
        b"\r",
        b"\n\n",
        b"\0",
        b"\xff",
        b"\xed\x95",
        b"\\u12",
        b"\\ud83e",
        b"null",
        b"-0",
        b"1e5",
        b"01",
        b"data: ",
        b"\"usage\":",
        b"\"model\":\"x\",",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    ];
    let [kind, which, length, ..] = wound.to_le_bytes();
    let at = usize::try_from(wound >> 24).unwrap_or(0) % (text.len() + 1);
    let end = (at + usize::from(length)).min(text.len());
    match kind % 6 {
        0 => drop(text.splice(at..at, PIECES[usize::from(which) % PIECES.len()].iter().copied())),
        1 => text.truncate(at),
        2 => drop(text.drain(at..end)),
        3 => {
            if let Some(byte) = text.get_mut(at) {
                *byte ^= 1 << (which % 8);
            }
        }
        4 => {
            let again = text[at..end].to_vec();
            drop(text.splice(at..at, again));
        }
        _ => {
            if let Some(byte) = text.get_mut(at) {
                *byte = which;
            }
        }
    }
}

/// Cuts bytes where `cuts` say, taken modulo what is left.
pub(super) fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    let mut rest = bytes;
    for cut in cuts {
        let (chunk, after) = rest.split_at(cut % (rest.len() + 1));
        chunks.push(chunk);
        rest = after;
    }
    chunks.push(rest);
    chunks
}

/// Any JSON text, spelt in any way.
pub(super) fn json() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", "", "", " ", "\n\t", "\r"]);
    let string = prop::collection::vec(
        prop::sample::select(vec![
            "a", "é", "한", "🦜", "\\n", "\\\"", "\\\\", "\\/", "\\u00e9", "\\ud83e", "model", " ",
        ]),
        0..6,
    )
    .prop_map(|parts| format!("\"{}\"", parts.concat()));
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "true", "false", "0", "-0", "12", "-1.5", "1e400", "2E-3", "0.0e+1", "\"\""])
            .prop_map(str::to_owned),
        string.clone(),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        let value =
            (space.clone(), inner, space.clone()).prop_map(|(before, value, after)| format!("{before}{value}{after}"));
        let pair = (space.clone(), string.clone(), space.clone(), value.clone())
            .prop_map(|(before, key, after, value)| format!("{before}{key}{after}:{value}"));
        prop_oneof![
            prop::collection::vec(value, 0..6).prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec(pair, 0..6).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
        ]
    })
}

/// What a run takes, undisturbed: the least of many, because others use the machine too.
pub(super) fn cost(mut run: impl FnMut()) -> std::time::Duration {
    const BATCH: u32 = 50;
    let mut batch = || {
        let begin = tokio::time::Instant::now();
        (0..BATCH).for_each(|_| run());
        begin.elapsed() / BATCH
    };
    (0..200).map(|_| batch()).min().unwrap_or_default()
}

/// The readers that meet the world's bytes first, without the expense of properties: the head of a request, the tap on
/// an answer, the chunk that is left out, the judge of refusals.
#[test]
fn a_hundred_thousand_damaged_texts_are_read_without_a_panic() {
    use bytes::Bytes;
    use rand::{RngExt, SeedableRng};

    use super::{Head, Outside, Tap, Unasked, judge_refusal};

    let mut rng = rand::rngs::SmallRng::seed_from_u64(43);
    let texts: Vec<(Wire, &[u8])> = [REQUESTS, STREAMS, ANSWERS].concat();
    let wires: Vec<Wire> = REQUESTS.iter().map(|(wire, _)| *wire).collect();
    let (mut heads, mut answers) = (0, 0);
    for run in 0..if is_long() { 1_000_000 } else { 100_000 } {
        let (wire, text) = texts[run % texts.len()];
        // Now and then in the ears of somebody who speaks another language.
        let wire = if rng.random_range(0..8) == 0 { wires[rng.random_range(0..wires.len())] } else { wire };
        // A piece of it is as good as the whole, and read faster.
        let from = if rng.random_range(0..3) == 0 { rng.random_range(0..text.len()) } else { 0 };
        let mut text = text[from..(from + 280).min(text.len())].to_vec();
        for _ in 0..rng.random_range(0..4) {
            damage(&mut text, rng.random());
        }
        heads += usize::from(Head::read(wire, &text, Outside { model: Some("m"), stream: false }).is_ok());
        let cut = rng.random_range(0..=text.len());
        let (mut tap, mut unasked) = (Tap::new(wire), Unasked::new());
        let mut passed = 0;
        for part in [&text[..cut], &text[cut..]] {
            tap.push(part);
            passed += unasked.push(Bytes::copy_from_slice(part)).len();
        }
        passed += unasked.finish().len();
        assert!(passed <= text.len(), "nothing is added");
        answers += usize::from(tap.finish().estimated.output > 0);
        judge_refusal(wire, 400, &http::HeaderMap::new(), &text);
    }
    assert!(heads > 1_000 && answers > 1_000, "some make sense: {heads} {answers}");
}
