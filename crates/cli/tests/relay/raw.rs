//! A server that is nobody's: it writes down what it is sent, byte for byte, and says what it is told to say.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is said to the next request.
#[derive(Clone, Debug)]
pub struct Script {
    /// Everything before the empty line, without `Transfer-Encoding`.
    pub head: String,
    pub body: Vec<u8>,
    /// How long the pieces are in which the body goes out, in turn.
    pub pieces: Vec<usize>,
}

impl Script {
    pub fn json(body: &[u8]) -> Script {
        Script::of("application/json", body)
    }

    pub fn stream(body: &[u8]) -> Script {
        Script::of("text/event-stream", body)
    }

    fn of(kind: &str, body: &[u8]) -> Script {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n");
        Script { head, body: body.to_vec(), pieces: vec![usize::MAX] }
    }

    pub fn status(mut self, status: &str) -> Script {
        self.head = self.head.replace("200 OK", status);
        self
    }

    pub fn header(mut self, line: &str) -> Script {
        self.head += &format!("{line}\r\n");
        self
    }

    pub fn in_pieces(mut self, pieces: &[usize]) -> Script {
        self.pieces = pieces.to_vec();
        self
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Method, target and version.
    pub line: String,
    /// In lower case, as they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Dropping it ends it.
pub struct Raw {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    listening: JoinHandle<()>,
}

impl Raw {
    pub async fn start() -> Raw {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let script = Arc::new(Mutex::new(Script::json(b"{}")));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (telling, hearing) = (script.clone(), heard.clone());
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever hangs up on us is of no interest here.
                tokio::spawn(converse(stream, telling.clone(), hearing.clone()));
            }
        });
        Raw { address, script, heard, listening }
    }

    pub fn say(&self, script: Script) {
        *self.script.lock().expect("a lock") = script;
    }

    /// What was heard since the last time.
    pub fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().expect("a lock"))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn converse(
    mut stream: TcpStream,
    script: Arc<Mutex<Script>>,
    heard: Arc<Mutex<Vec<Heard>>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: Vec<_> = lines.filter_map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    while bytes.len() < end + length.unwrap_or(0) {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    heard.lock().expect("a lock").push(Heard { line, headers, body: bytes[end..].to_vec() });
    let script = script.lock().expect("a lock").clone();
    let head = format!("{}transfer-encoding: chunked\r\nconnection: close\r\n\r\n", script.head);
    stream.write_all(head.as_bytes()).await?;
    let mut rest = &script.body[..];
    for length in script.pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        stream.write_all(piece).await?;
        stream.write_all(b"\r\n").await?;
        stream.flush().await?;
        rest = after;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    stream.shutdown().await
}
