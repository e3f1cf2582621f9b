//! The server that is asked through proxy and relay: always the same answers, at almost no cost.
//!
//! It shares the machine with what is measured, so it reads no more of a request than where it ends and which model it
//! names. The scripted upstream of the mock understands its requests, and would cost several times the proxy.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::wire::{find, head_end, length};

/// Tokens of a short question, as they are billed.
const SHORT: usize = 10;
/// Words of an answer that is not a stream.
const WORDS: usize = 500;
/// Between two pieces of a stream whose gaps are looked at.
pub const PACE: Duration = Duration::from_millis(20);
/// As much of a body is looked at for the model's name.
const NAMED_WITHIN: usize = 200;

/// What is asked for, by the name of the model there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    Whole,
    /// The same answer to a long question.
    Long,
    Stream,
    /// Pieces at a distance of [`PACE`].
    Paced,
    /// One piece, and then nothing until somebody hangs up.
    Idle,
}

impl Model {
    pub const ALL: [Model; 5] = [Model::Whole, Model::Long, Model::Stream, Model::Paced, Model::Idle];

    pub fn name(self) -> &'static str {
        match self {
            Model::Whole => "bench-whole",
            Model::Long => "bench-long",
            Model::Stream => "bench-stream",
            Model::Paced => "bench-paced",
            Model::Idle => "bench-idle",
        }
    }
}

/// What is answered, made once.
struct Answers {
    whole: Vec<u8>,
    long: Vec<u8>,
    /// The head of a stream and its pieces, each as one chunk.
    head: Vec<u8>,
    pieces: Vec<Vec<u8>>,
    last: Vec<u8>,
}

/// Starts answering, until the program ends. `long_words` is how many words a long question has, for the usage to be
/// believed.
pub async fn start(chunks: usize, long_words: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // They live as long as the program.
    let answers: &'static Answers = Box::leak(Box::new(Answers::new(chunks, long_words)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).ok();
            tokio::spawn(async move {
                // Whoever hangs up has got what he wanted.
                answers.converse(stream).await.ok();
            });
        }
    });
    Ok(address)
}

impl Answers {
    fn new(chunks: usize, long_words: usize) -> Answers {
        let words = (0..WORDS).fold(String::new(), |mut words, n| {
            write!(words, "word{n:03} ").ok();
            words
        });
        let usage = |input: usize, output: usize| {
            let total = input + output;
            format!("{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\"total_tokens\":{total}}}")
        };
        let whole = |input: usize| {
            let body = format!(
                "{{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\",\
                 \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{words}\"}},\
                 \"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{}}}",
                usage(input, WORDS)
            );
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        let event = |rest: &str| {
            format!(
                "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
                 \"model\":\"bench\",{rest}}}\n\n"
            )
        };
        let said = |n: usize| {
            event(&format!(
                "\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word{n:03} \"}},\"finish_reason\":null}}]"
            ))
        };
        let end = event("\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]")
            + &event(&format!("\"choices\":[],\"usage\":{}", usage(SHORT, chunks)))
            + "data: [DONE]\n\n";
        let mut last = chunk(&end);
        last.extend_from_slice(b"0\r\n\r\n");
        Answers {
            whole: whole(SHORT).into_bytes(),
            long: whole(long_words).into_bytes(),
            head: head.as_bytes().to_vec(),
            pieces: (0..chunks).map(|n| chunk(&said(n))).collect(),
            last,
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> Result<()> {
        let mut asked = Vec::with_capacity(4_096);
        loop {
            asked.clear();
            let Some(model) = read(&mut stream, &mut asked).await? else { return Ok(()) };
            let whole = match model {
                Model::Whole => Some(&self.whole),
                Model::Long => Some(&self.long),
                _ => None,
            };
            if let Some(whole) = whole {
                stream.write_all(whole).await?;
                continue;
            }
            stream.write_all(&self.head).await?;
            match model {
                Model::Whole | Model::Long => {}
                Model::Idle => {
                    stream.write_all(&self.pieces[0]).await?;
                    // Nothing comes until the other side hangs up.
                    stream.read_u8().await?;
                }
                Model::Stream => {
                    for piece in &self.pieces {
                        stream.write_all(piece).await?;
                        // The others' turn; so the pieces go out one by one.
                        tokio::task::yield_now().await;
                    }
                }
                Model::Paced => {
                    for piece in &self.pieces {
                        stream.write_all(piece).await?;
                        tokio::time::sleep(PACE).await;
                    }
                }
            }
            stream.write_all(&self.last).await?;
        }
    }
}

/// Reads one request to its end. `None` if nothing more comes.
async fn read(stream: &mut TcpStream, asked: &mut Vec<u8>) -> Result<Option<Model>> {
    let head = loop {
        if let Some(end) = head_end(asked) {
            break end;
        }
        if stream.read_buf(asked).await? == 0 {
            return Ok(None);
        }
    };
    let length = length(&asked[..head]).context("a request without a length")?;
    while asked.len() < head + length {
        ensure!(stream.read_buf(asked).await? > 0, "a request broke off");
    }
    let body = &asked[head..];
    let body = &body[..body.len().min(NAMED_WITHIN)];
    let named = Model::ALL.into_iter().find(|model| find(body, model.name().as_bytes()).is_some());
    named.context("a request for no model of ours").map(Some)
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}
