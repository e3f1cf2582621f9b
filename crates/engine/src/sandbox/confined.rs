//! A program in its cell, while it runs: what it says, what it is told, and how it ends.
//!
//! Three tasks belong to each: one reads its output, one its errors, and one (`Keeper`) waits for its end and brings it
//! about. Dropping a [`Confined`] ends the program at once; when the server itself dies, the shim and bubblewrap notice.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cell::{Hush, Limits};
use super::order::{Order, Tell, Told};
use super::ready::Ready;
use super::{Lack, last_line, ready, tree, watch};

/// How many lines may wait to be read; then the agent waits.
const LINES: usize = 32;
/// How many words may wait for the shim.
const WORDS: usize = 64;
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long after an agent's end the rest of it may take, before it is ended from outside.
const REST: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(200);

/// What is started, as seen from the server: bubblewrap, or the shim itself.
pub(super) struct Program {
    pub path: PathBuf,
    pub args: Vec<String>,
    /// Whether there is a cell around the shim, with a first process that everybody else dies with.
    pub tight: bool,
}

/// A running program in its cell.
#[derive(Debug)]
pub struct Confined {
    lines: mpsc::Receiver<Line>,
    words: mpsc::Sender<Tell>,
    errors: Arc<Mutex<Tail>>,
    pulse: Arc<Pulse>,
    stop: CancellationToken,
    ended: channel::Receiver<Option<Ended>>,
    process: u32,
    _alive: DropGuard,
}

/// A line of standard output, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is no UTF-8 was replaced.
    pub text: String,
    /// It was longer than a line may be, and this is its beginning.
    pub cut: bool,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub how: How,
    /// What the agent itself ended with, even if it was asked to.
    pub code: Option<i32>,
    /// The end of its standard error.
    pub errors: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// By itself.
    Exit(i32),
    /// By a signal that was not ours.
    Signal(i32),
    /// It was asked to stop.
    Stopped,
    /// It ran for as long as it may.
    TimedOut,
    /// Nothing came from it for as long as that may be.
    Idle,
    /// It said more than it may.
    Flood,
    /// Its processes held more memory than they may, or the machine had none left.
    Memory,
    /// Its workspace and home became larger than they may.
    Disk,
    /// Nobody knows: the cell went down around it.
    Lost,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Exit(code) => write!(f, "it ended with {code}"),
            How::Signal(signal) => write!(f, "signal {signal} ended it"),
            How::Stopped => f.write_str("it was stopped"),
            How::TimedOut => f.write_str("it ran for too long"),
            How::Idle => f.write_str("it said nothing for too long"),
            How::Flood => f.write_str("it said too much"),
            How::Memory => f.write_str("it took too much memory"),
            How::Disk => f.write_str("its files became too many or too large"),
            How::Lost => f.write_str("its cell went down"),
        }
    }
}

impl Confined {
    pub(super) async fn start(program: Program, order: Order, ready: Ready) -> Result<Confined, Lack> {
        let silent = |error: std::io::Error| Lack::Silent(error.to_string());
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(silent)?;
        ours.set_nonblocking(true).map_err(silent)?;
        let (reader, writer) = UnixStream::from_std(ours).map_err(silent)?.into_split();
        let mut command = command(&program);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        let mut child = spawn(command).await.map_err(silent)?;
        let process = child.id().ok_or_else(|| Lack::Silent("it was gone at once".into()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else { return Err(Lack::Silent("no pipes".into())) };

        let limits = ready.cell.limits.clone();
        let errors = Arc::new(Mutex::new(Tail::new(limits.error_bytes)));
        let pulse = Arc::new(Pulse::new());
        let over = CancellationToken::new();
        let errors_read = tokio::spawn(hear_errors(stderr, Arc::clone(&errors), Arc::clone(&pulse), over.clone()));
        let (words, waiting) = mpsc::channel(WORDS);
        words.try_send(Tell::Start(Box::new(order))).ok();
        let talk = tokio::spawn(talk(writer, waiting));
        let mut told = BufReader::new(reader).lines();
        let first = tokio::time::timeout(PATIENCE, told.next_line()).await;
        let first = first.ok().and_then(Result::ok).flatten().and_then(|line| serde_json::from_str(&line).ok());
        if !matches!(first, Some(Told::Started)) {
            talk.abort();
            child.start_kill().ok();
            child.wait().await.ok();
            tokio::time::timeout(REST, errors_read).await.ok();
            let errors = errors.lock().map(|tail| tail.text()).unwrap_or_default();
            return Err(why_not(first, &errors));
        }

        let first_process = if program.tight { first_process(process).map_err(silent)? } else { None };
        let (line_sender, lines) = mpsc::channel(LINES);
        let (complain, complaints) = mpsc::channel(4);
        let hear = Hear { limits: limits.clone(), lines: line_sender, complain: complain.clone() };
        tokio::spawn(hear.all(stdout, Arc::clone(&pulse), over.clone()));
        let watchers = vec![
            tokio::spawn(watch::memory(process, limits.memory_bytes, complain.clone())),
            tokio::spawn(watch::disk(ready.cell.workspace.clone(), ready.cell.home.clone(), limits.clone(), complain)),
        ];
        let (stop, killed) = (CancellationToken::new(), CancellationToken::new());
        let (tell_end, ended) = channel::channel(None);
        let keeper = Keeper {
            child,
            tight: program.tight,
            killing: None,
            first_process,
            told,
            words: words.clone(),
            talk,
            watchers,
            complaints,
            errors: Arc::clone(&errors),
            errors_read,
            pulse: Arc::clone(&pulse),
            stop: stop.clone(),
            killed: killed.clone(),
            over,
            ready,
        };
        tokio::spawn(keeper.keep(tell_end));
        Ok(Confined { lines, words, errors, pulse, stop, ended, process, _alive: killed.drop_guard() })
    }

    /// The next line that it says. `None` when there will be none.
    pub async fn next(&mut self) -> Option<Line> {
        self.lines.recv().await
    }

    /// Writes a line to its standard input. What cannot be written any more is dropped.
    pub async fn write(&self, line: &str) {
        let line = Tell::Write(format!("{line}\n"));
        self.words.send(line).await.ok();
    }

    /// Writes nothing more: it reads the end.
    pub async fn close_input(&self) {
        self.words.send(Tell::CloseInput).await.ok();
    }

    /// While somebody is being asked, silence is no fault.
    pub fn hold(&self, held: bool) {
        self.pulse.beat();
        self.pulse.held.store(held, Ordering::Relaxed);
    }

    /// Asks it to stop, ends it after its grace, and returns when nothing of it is left.
    pub async fn stop(&mut self) -> Ended {
        self.stop.cancel();
        self.ended().await
    }

    /// Asks it to stop, and does not wait.
    pub fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    /// How it ended, as soon as it has. Lines may still wait to be read.
    pub async fn ended(&mut self) -> Ended {
        match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().expect("it was waited for"),
            // The runtime is going down, and its tasks with it.
            Err(_) => Ended { how: How::Lost, code: None, errors: String::new() },
        }
    }

    /// The end of its standard error so far.
    pub fn errors(&self) -> String {
        self.errors.lock().map(|tail| tail.text()).unwrap_or_default()
    }

    /// Its outermost process on this machine.
    pub fn process(&self) -> u32 {
        self.process
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts programs of other people")]
fn command(program: &Program) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(&program.path);
    command.args(&program.args).env_clear().current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
    // A Ctrl-C on our terminal is for us alone.
    command.process_group(0).kill_on_drop(true);
    command
}

/// Starts a program from a thread that stays for as long as we do: a cell is told to end with the thread that made it, and
/// the runtime's threads come and go.
async fn spawn(mut command: tokio::process::Command) -> std::io::Result<Child> {
    type Work = Box<dyn FnOnce() + Send>;
    static STARTER: OnceLock<std::sync::mpsc::SyncSender<Work>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, works) = std::sync::mpsc::sync_channel::<Work>(WORDS);
        std::thread::spawn(move || works.into_iter().for_each(|work| work()));
        sender
    });
    let (tell, told) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let work = Box::new(move || {
        let _entered = runtime.enter();
        // What nobody waits for any more ends by being dropped. The command holds the shim's end of the socket, and must
        // not outlive this.
        tell.send(command.spawn()).ok();
    });
    let gone = || std::io::Error::other("the thread that starts programs is gone");
    starter.send(work).map_err(|_| gone())?;
    told.await.map_err(|_| gone())?
}

/// What a start that came to nothing means.
fn why_not(told: Option<Told>, errors: &str) -> Lack {
    let line = last_line(errors).trim_start_matches("bwrap: ");
    let namespaces = ["namespace", "uid map", "gid map", "loopback", "Unexpected capabilities"];
    match told {
        Some(Told::Refused(why)) => Lack::Refused(why),
        Some(Told::Loose(why)) => Lack::Loose(why),
        _ if namespaces.iter().any(|word| line.contains(word)) => Lack::NoNamespaces(line.to_owned()),
        _ => Lack::Silent(line.to_owned()),
    }
}

/// The first process of a cell, held so that its number cannot come to mean another. All others end with it.
#[derive(Debug)]
struct First {
    process: Pid,
    handle: OwnedFd,
}

impl First {
    /// Ends it and everybody with it; whether it is gone already.
    fn kill(&self) -> bool {
        if rustix::process::pidfd_send_signal(&self.handle, Signal::KILL) == Err(rustix::io::Errno::SRCH) {
            return true;
        }
        // What ended and was not fetched yet can be signalled, too.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process)).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']))
    }
}

fn first_process(bwrap: u32) -> std::io::Result<Option<First>> {
    let Some(process) = tree::children(bwrap).first().and_then(|id| Pid::from_raw(i32::try_from(*id).ok()?)) else {
        // It ended already: its end was told, and bubblewrap goes after it.
        return Ok(None);
    };
    match rustix::process::pidfd_open(process, PidfdFlags::empty()) {
        Ok(handle) => Ok(Some(First { process, handle })),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn talk(mut writer: OwnedWriteHalf, mut words: mpsc::Receiver<Tell>) {
    while let Some(word) = words.recv().await {
        let Ok(mut line) = serde_json::to_string(&word) else { continue };
        line.push('\n');
        if writer.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
    // Dropping the writer would tell the shim that we are gone.
    std::future::pending::<()>().await;
}

/// When something was last heard.
#[derive(Debug)]
struct Pulse {
    last: Mutex<Instant>,
    held: AtomicBool,
}

impl Pulse {
    fn new() -> Pulse {
        Pulse { last: Mutex::new(Instant::now()), held: AtomicBool::new(false) }
    }

    fn beat(&self) {
        if let Ok(mut last) = self.last.lock() {
            *last = Instant::now();
        }
    }

    fn quiet(&self) -> Duration {
        if self.held.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.last.lock().map(|last| last.elapsed()).unwrap_or_default()
    }
}

/// The last bytes of a text.
#[derive(Debug)]
struct Tail {
    bytes: VecDeque<u8>,
    most: usize,
}

impl Tail {
    fn new(most: usize) -> Tail {
        Tail { bytes: VecDeque::new(), most }
    }

    fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.most)..];
        let too_many = (self.bytes.len() + bytes.len()).saturating_sub(self.most);
        self.bytes.drain(..too_many);
        self.bytes.extend(bytes);
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Reads what there is. After everything is over, what somebody still holds open is not waited for.
async fn read(from: &mut (impl AsyncRead + Unpin), bytes: &mut [u8], over: &CancellationToken) -> usize {
    tokio::select! {
        read = from.read(bytes) => read.unwrap_or(0),
        () = async { over.cancelled().await; tokio::time::sleep(REST).await } => 0,
    }
}

async fn hear_errors(
    mut stderr: impl AsyncRead + Unpin,
    errors: Arc<Mutex<Tail>>,
    pulse: Arc<Pulse>,
    over: CancellationToken,
) {
    let mut bytes = vec![0; 8 << 10];
    loop {
        match read(&mut stderr, &mut bytes, &over).await {
            0 => return,
            read => {
                pulse.beat();
                if let Ok(mut errors) = errors.lock() {
                    errors.push(&bytes[..read]);
                }
            }
        }
    }
}

struct Hear {
    limits: Limits,
    lines: mpsc::Sender<Line>,
    complain: mpsc::Sender<How>,
}

impl Hear {
    async fn all(self, mut stdout: impl AsyncRead + Unpin, pulse: Arc<Pulse>, over: CancellationToken) {
        let mut bytes = vec![0; 16 << 10];
        let (mut line, mut cut, mut total) = (Vec::new(), false, 0);
        loop {
            let read = read(&mut stdout, &mut bytes, &over).await;
            pulse.beat();
            total += read;
            if total > self.limits.output_bytes {
                self.complain.try_send(How::Flood).ok();
                // Its pipe closes with us, and it hears of that at once.
                return;
            }
            let mut rest = &bytes[..read];
            while let Some(at) = memchr::memchr(b'\n', rest) {
                self.keep(&mut line, &mut cut, &rest[..at]);
                rest = &rest[at + 1..];
                if !self.send(&mut line, &mut cut).await {
                    return;
                }
                // While nobody took the line the agent had to wait, which is not its silence.
                pulse.beat();
            }
            self.keep(&mut line, &mut cut, rest);
            if read == 0 {
                if !line.is_empty() {
                    self.send(&mut line, &mut cut).await;
                }
                return;
            }
        }
    }

    fn keep(&self, line: &mut Vec<u8>, cut: &mut bool, more: &[u8]) {
        let room = self.limits.line_bytes - line.len();
        line.extend(&more[..more.len().min(room)]);
        *cut |= more.len() > room;
    }

    async fn send(&self, line: &mut Vec<u8>, cut: &mut bool) -> bool {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        line.clear();
        // A long line is rare; its space is given back.
        line.shrink_to(16 << 10);
        self.lines.send(Line { text, cut: std::mem::take(cut) }).await.is_ok()
    }
}

/// Waits for the end, and brings it about.
struct Keeper {
    child: Child,
    tight: bool,
    killing: Option<Instant>,
    first_process: Option<First>,
    told: Lines<BufReader<OwnedReadHalf>>,
    words: mpsc::Sender<Tell>,
    talk: JoinHandle<()>,
    watchers: Vec<JoinHandle<()>>,
    complaints: mpsc::Receiver<How>,
    errors: Arc<Mutex<Tail>>,
    errors_read: JoinHandle<()>,
    pulse: Arc<Pulse>,
    stop: CancellationToken,
    killed: CancellationToken,
    over: CancellationToken,
    ready: Ready,
}

impl Keeper {
    async fn keep(mut self, tell_end: channel::Sender<Option<Ended>>) {
        let limits = self.ready.cell.limits.clone();
        let mut why = None;
        let mut told = None;
        let mut silent = false;
        let mut patience: Option<Instant> = None;
        let wall = Instant::now() + limits.wall;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let status = loop {
            let mut asked = None;
            tokio::select! {
                status = self.child.wait() => break status.ok(),
                line = self.told.next_line(), if !silent => {
                    match line.ok().flatten().and_then(|line| serde_json::from_str(&line).ok()) {
                        Some(word) => {
                            told = Some(word);
                            patience = Some(Instant::now() + REST);
                        }
                        None => silent = true,
                    }
                }
                () = self.stop.cancelled(), if why.is_none() => asked = Some(How::Stopped),
                Some(complaint) = self.complaints.recv(), if why.is_none() => asked = Some(complaint),
                () = self.killed.cancelled(), if patience.is_none_or(|end| end > Instant::now()) => {
                    why.get_or_insert(How::Stopped);
                    patience = Some(Instant::now());
                }
                _ = tick.tick() => {
                    if why.is_none() && told.is_none() {
                        let quiet = self.pulse.quiet() >= limits.idle;
                        asked = (Instant::now() >= wall).then_some(How::TimedOut).or(quiet.then_some(How::Idle));
                    }
                }
            }
            if let Some(reason) = asked {
                // Who takes everybody's memory, or talks without end, is not asked.
                let grace = if matches!(reason, How::Memory | How::Flood) { Duration::ZERO } else { limits.grace };
                patience.get_or_insert(Instant::now() + grace);
                why = Some(reason);
                let word = match self.ready.cell.hush {
                    Hush::Interrupt => Tell::Interrupt,
                    Hush::Terminate => Tell::Terminate,
                };
                self.words.try_send(word).ok();
            }
            if patience.is_some_and(|end| Instant::now() >= end) {
                self.kill();
            }
        };
        // Its last word may still be on the way.
        if told.is_none() && !silent {
            let line = tokio::time::timeout(REST, self.told.next_line()).await;
            let line = line.ok().and_then(Result::ok).flatten();
            told = line.and_then(|line| serde_json::from_str(&line).ok());
        }
        self.kill();
        self.nothing_left().await;
        self.watchers.iter().for_each(JoinHandle::abort);
        self.over.cancel();
        tokio::time::timeout(REST * 2, &mut self.errors_read).await.ok();
        let Ready { cell, aside, .. } = self.ready;
        if !aside.is_empty() {
            let tidied = tokio::task::spawn_blocking(move || ready::tidy(&cell.workspace, &aside)).await;
            if !matches!(tidied, Ok(Ok(()))) {
                tracing::warn!("a link that was put aside could not be put back into its workspace");
            }
        }
        let code = if let Some(Told::Exit(code)) = told { Some(code) } else { None };
        let by_itself = || match told {
            Some(Told::Exit(code)) => How::Exit(code),
            Some(Told::Signal(signal)) => How::Signal(signal),
            // Without a word of the shim's, what ended was the cell.
            _ => status.and_then(|status| status.signal()).map_or(How::Lost, How::Signal),
        };
        let errors = self.errors.lock().map(|tail| tail.text()).unwrap_or_default();
        tell_end.send_replace(Some(Ended { how: why.unwrap_or_else(by_itself), code, errors }));
    }

    /// Ends everything now. Without a cell it is the shim that finds everybody, when it sees that we are gone; it gets
    /// a little time for that.
    fn kill(&mut self) {
        self.talk.abort();
        let since = *self.killing.get_or_insert_with(Instant::now);
        if let Some(process) = &self.first_process {
            process.kill();
        }
        if self.tight || since.elapsed() >= REST {
            self.child.start_kill().ok();
        }
    }

    /// Waits until the cell's first process is gone, and with it everybody.
    async fn nothing_left(&mut self) {
        let Some(process) = self.first_process.take() else { return };
        let end = Instant::now() + REST * 4;
        while !process.kill() {
            if Instant::now() >= end {
                return tracing::error!("a cell's first process does not end");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(line_bytes: usize, output_bytes: usize) -> (Hear, mpsc::Receiver<Line>, mpsc::Receiver<How>) {
        let (lines, heard) = mpsc::channel(64);
        let (complain, complaints) = mpsc::channel(4);
        let limits = Limits { line_bytes, output_bytes, ..Limits::default() };
        (Hear { limits, lines, complain }, heard, complaints)
    }

    async fn all(text: &[u8], line_bytes: usize, output_bytes: usize) -> (Vec<Line>, Option<How>) {
        let (hear, mut heard, mut complaints) = hear(line_bytes, output_bytes);
        hear.all(text, Arc::new(Pulse::new()), CancellationToken::new()).await;
        let mut lines = Vec::new();
        while let Some(line) = heard.recv().await {
            lines.push(line);
        }
        (lines, complaints.try_recv().ok())
    }

    #[tokio::test]
    async fn lines_are_cut_where_they_are_too_long_and_no_other_suffers() {
        let (lines, complaint) = all(b"one\n\n0123456789abc\r\nlast", 10, 1000).await;
        let texts: Vec<_> = lines.iter().map(|line| (line.text.as_str(), line.cut)).collect();
        assert_eq!(texts, [("one", false), ("", false), ("0123456789", true), ("last", false)]);
        assert_eq!(complaint, None);
    }

    #[tokio::test]
    async fn what_is_no_text_becomes_text() {
        let (lines, _) = all(b"a\xffb\n\xf0\x9f\n", 10, 1000).await;
        assert_eq!(lines[0].text, "a\u{fffd}b");
        assert_eq!(lines[1].text, "\u{fffd}");
    }

    #[tokio::test]
    async fn who_says_too_much_is_not_heard_to_the_end() {
        let (_, complaint) = all(&b"y\n".repeat(600), 10, 1000).await;
        assert_eq!(complaint, Some(How::Flood));
    }

    #[test]
    fn of_the_errors_the_end_is_kept() {
        let mut tail = Tail::new(5);
        for word in ["ab", "", "cde", "fg"] {
            tail.push(word.as_bytes());
        }
        assert_eq!(tail.text(), "cdefg");
        tail.push(b"0123456789");
        assert_eq!(tail.text(), "56789");
    }
}
