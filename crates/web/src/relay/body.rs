//! Taking in a request's body: with an end to its length and to our patience.

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use hyper::body::Body as _;
use salon::relay::{Kind, Refused};
use tokio::time::timeout;

/// How long a body of any size may take, and how much longer for each piece of it.
const PATIENCE: Duration = Duration::from_secs(10);
const PIECE: usize = 64 << 10;
/// How many times as long as it may be a body is listened to, and forgotten.
const LISTENED_TO: usize = 4;

pub(crate) async fn read(body: Body, headers: &HeaderMap, most: usize) -> Result<Bytes, Refused> {
    let too_large = || Refused::new(Kind::TooLarge, format!("The request's body is larger than {}.", size(most)));
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        // Nobody needs to send a question compressed, and nobody gets to inflate one here.
        let mut refused = Refused::new(Kind::InvalidRequest, "Compressed bodies are not taken.");
        refused.status = 415;
        return Err(refused);
    }
    let stated: Option<usize> = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(stated) = stated.filter(|stated| *stated > most) {
        // Most clients listen only when they have said everything, and would see nothing but a broken connection.
        if stated <= most.saturating_mul(LISTENED_TO) {
            timeout(PATIENCE, hear_out(body)).await.ok();
        }
        return Err(too_large());
    }
    let patience = PATIENCE + Duration::from_secs((stated.unwrap_or(most) / PIECE) as u64);
    match timeout(patience, axum::body::to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Refused::new(Kind::InvalidRequest, "The request's body broke off.")),
        Err(_) => {
            let mut refused = Refused::new(Kind::Timeout, "The request's body took too long.");
            refused.status = 408;
            Err(refused)
        }
    }
}

/// A bound as people say it: none of ours is between two of these.
fn size(bytes: usize) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

async fn hear_out(mut body: Body) {
    while let Some(Ok(_)) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {}
}

fn is_length(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}
