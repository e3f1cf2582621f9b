//! Markdown, as models write it, to text with entities.
//!
//! The renderer follows the author's own layout: a blank line in the source is a blank line in the message,
//! and a line break is a line break. It reads one event after the other and never looks ahead, so what is
//! written stays written while more of the answer arrives.

use std::ops::Range;

use pulldown_cmark::{Alignment, CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::{
    Formatted, clean, is_blank,
    pages::finish,
    plain,
    spans::{self, Span},
    stars, table,
};
use crate::types::EntityKind;

const RULE: &str = "──────────";
const BULLET: &str = "• ";
/// Spaces that each level of a list is moved to the right, and how many levels move.
const INDENT: usize = 4;
const DEEPEST: usize = 8;
/// How far before a block its blank line is looked for.
const GAP_BYTES: usize = 256;

/// Turns a model's Markdown, finished or not, into text with entities. Only `http` and `https` addresses
/// become links; of others the address is shown. HTML is shown as it stands. What can be seen in the source
/// can be seen in the result: a text of which nothing would be left is shown as it stands too.
pub fn markdown(source: &str) -> Formatted {
    let cleaned = clean::clean_source(source);
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut renderer = Renderer { source: &cleaned, ..Renderer::default() };
    for (event, range) in Parser::new_ext(&cleaned, options).into_offset_iter() {
        renderer.event(event, range);
    }
    let Renderer { mut out, mut spans, stars, .. } = renderer;
    stars::embolden(&mut out, &mut spans, &stars);
    clean::settle_marks(&mut out);
    if is_blank(&out) { plain(source) } else { finish(&out, spans) }
}

#[derive(Default)]
struct Renderer<'a> {
    source: &'a str,
    out: String,
    spans: Vec<Span>,
    /// Where the author meant a star as a star.
    stars: Vec<usize>,
    /// Where the open inline elements and headings began.
    open: Vec<usize>,
    /// The address of the open link and where its text began; an image in a link is text of the link.
    link: Option<(String, usize)>,
    /// How many images stand in the open link.
    images: usize,
    /// The next number of each open list; bullets have none.
    lists: Vec<Option<u64>>,
    /// Characters of the marker of the item that is being written.
    marker: usize,
    /// What stands below the open heading, if it is dashes.
    dashes: Option<String>,
    /// How many quotes are open, and where the outermost began.
    quotes: usize,
    quote: usize,
    /// Line breaks that are due before the next text.
    due: usize,
    /// Whether the last thing written is the marker of an item, which the next block continues.
    fresh: bool,
    code: Option<(String, Option<String>)>,
    table: Vec<Vec<String>>,
    alignments: Vec<Alignment>,
    cell: Option<String>,
}

impl Renderer<'_> {
    fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(tag) => self.start(tag, range),
            Event::End(tag) => self.end(tag, range),
            Event::Text(text) => match &mut self.code {
                Some((code, _)) => code.push_str(&text),
                None => {
                    self.push(&text);
                    let is_literal = self.source.get(..range.start).is_some_and(|before| before.ends_with('\\'))
                        || self.source.get(range) != Some(&*text);
                    if is_literal && self.cell.is_none() && text.starts_with('*') {
                        self.stars.push(self.out.len() - clean::clean(&text).len());
                    }
                }
            },
            Event::Code(code) => {
                let start = self.position();
                self.push(&code);
                self.span(EntityKind::Code, start);
            }
            Event::Html(html) => {
                let lines = html.trim_end_matches('\n');
                self.push(lines);
                self.due = (self.due + html.len() - lines.len()).min(2);
            }
            Event::InlineHtml(html) => self.push(&html),
            Event::SoftBreak | Event::HardBreak => self.push("\n"),
            Event::Rule => {
                self.block(range.start);
                self.push(RULE);
                self.due = 1;
            }
            Event::TaskListMarker(done) => {
                if self.out.ends_with(BULLET) {
                    self.out.truncate(self.out.len() - BULLET.len());
                }
                self.push(if done { "☑ " } else { "☐ " });
            }
            // Not asked for in the options.
            Event::FootnoteReference(text) | Event::InlineMath(text) | Event::DisplayMath(text) => self.push(&text),
        }
    }

    fn start(&mut self, tag: Tag<'_>, range: Range<usize>) {
        match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.block(range.start),
            Tag::Heading { .. } => {
                self.block(range.start);
                self.open.push(self.out.len());
                self.dashes = self.dashes_below(&range);
            }
            Tag::BlockQuote(_) => {
                self.block_on_its_own_line(range.start);
                if self.quotes == 0 {
                    self.quote = self.out.len();
                }
                self.quotes += 1;
            }
            Tag::CodeBlock(kind) => {
                self.block_on_its_own_line(range.start);
                let language = match kind {
                    CodeBlockKind::Fenced(info) => language(&info),
                    CodeBlockKind::Indented => None,
                };
                self.code = Some((String::new(), language));
            }
            Tag::List(first) => {
                if !self.lists.is_empty() {
                    self.block_on_its_own_line(range.start);
                }
                self.lists.push(first);
            }
            Tag::Item => self.item(range.start),
            Tag::Table(alignments) => {
                self.block_on_its_own_line(range.start);
                self.alignments = alignments;
            }
            Tag::TableHead | Tag::TableRow => self.table.push(Vec::new()),
            Tag::TableCell => self.cell = Some(String::new()),
            Tag::Emphasis | Tag::Strong => self.open.push(self.position()),
            Tag::Strikethrough => {
                // A single tilde is a range in Korean ("3~5개") more often than it is a deletion.
                if !self.is_double_tilde(&range) {
                    self.push("~");
                }
                self.open.push(self.position());
            }
            Tag::Link { dest_url, .. } => self.link = Some((dest_url.into_string(), self.position())),
            Tag::Image { dest_url, .. } => match self.link {
                Some(_) => self.images += 1,
                None => self.link = Some((dest_url.into_string(), self.position())),
            },
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd, range: Range<usize>) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.due = self.due.max(1),
            TagEnd::Heading(_) => match self.dashes.take() {
                None => {
                    self.close(EntityKind::Bold);
                    self.due = 1;
                }
                Some(dashes) => {
                    self.open.pop();
                    self.due = 1;
                    self.push(if dashes.len() < 3 { &dashes } else { RULE });
                    self.due = 1;
                }
            },
            TagEnd::BlockQuote(_) => {
                self.quotes = self.quotes.saturating_sub(1);
                if self.quotes == 0 {
                    self.span(EntityKind::Blockquote, self.quote);
                }
                self.due = 1;
            }
            TagEnd::CodeBlock => {
                if let Some((code, language)) = self.code.take() {
                    self.pre(&code, language);
                }
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.due = 1;
                self.fresh = false;
            }
            TagEnd::Item => {
                self.due = self.due.max(1);
                self.fresh = false;
            }
            TagEnd::TableCell => {
                if let (Some(cell), Some(row)) = (self.cell.take(), self.table.last_mut()) {
                    row.push(cell.trim().to_owned());
                }
            }
            TagEnd::Table => {
                let rows = std::mem::take(&mut self.table);
                let drawn = table::draw(&self.alignments, &rows);
                self.pre(&drawn, None);
            }
            TagEnd::Emphasis => self.close(EntityKind::Italic),
            TagEnd::Strong => self.close(EntityKind::Bold),
            TagEnd::Strikethrough if self.is_double_tilde(&range) => self.close(EntityKind::Strikethrough),
            TagEnd::Strikethrough => {
                self.open.pop();
                self.push("~");
            }
            TagEnd::Image if self.images > 0 => self.images -= 1,
            TagEnd::Link | TagEnd::Image => self.close_link(),
            _ => {}
        }
    }

    /// Begins an item: its marker, which the first block of the item continues.
    fn item(&mut self, at: usize) {
        let gap = self.gap_before(at);
        self.due = self.due.max(gap);
        let depth = self.lists.len().saturating_sub(1).min(DEEPEST);
        let marker = match self.lists.last_mut() {
            Some(Some(number)) => {
                let marker = format!("{number}. ");
                *number = number.saturating_add(1);
                marker
            }
            _ => BULLET.to_owned(),
        };
        self.break_line();
        self.out.extend(std::iter::repeat_n(' ', depth * INDENT));
        self.out.push_str(&marker);
        self.marker = marker.chars().count();
        self.fresh = true;
    }

    /// Writes a block in a typewriter's letters.
    fn pre(&mut self, code: &str, language: Option<String>) {
        let code = clean::clean(code);
        let code = code.trim_end();
        let first = code.len() - code.trim_start().len();
        let code = &code[code[..first].rfind('\n').map_or(0, |at| at + 1)..];
        if !is_blank(code) {
            self.break_line();
            let start = self.out.len();
            self.out.push_str(code);
            self.spans.push(Span { language, ..Span::new(EntityKind::Pre, start..self.out.len()) });
            self.due = 1;
        }
    }

    fn close(&mut self, kind: EntityKind) {
        if let Some(start) = self.open.pop() {
            self.span(kind, start);
        }
    }

    fn close_link(&mut self) {
        let Some((url, start)) = self.link.take() else { return };
        let shown = self.cell.as_ref().unwrap_or(&self.out).get(start..).unwrap_or_default().trim().to_owned();
        let says_it = shown == url || url.strip_prefix("mailto:") == Some(&*shown);
        if is_blank(&shown) {
            self.push(&url);
        }
        if self.cell.is_none() && spans::is_web(&url) {
            let end = self.out.len();
            self.spans.push(Span { url: Some(url), ..Span::new(EntityKind::TextLink, start..end) });
        } else if !is_blank(&shown) && !says_it && !url.trim().is_empty() {
            self.push(" (");
            let start = self.position();
            self.push(&url);
            // As code, so that Telegram does not make a link of it after all.
            self.span(EntityKind::Code, start);
            self.push(")");
        }
    }

    /// Begins a block, on the marker's line if it is the first of its item.
    fn block(&mut self, at: usize) {
        if !std::mem::take(&mut self.fresh) {
            self.due = self.due.max(self.gap_before(at));
        }
    }

    fn block_on_its_own_line(&mut self, at: usize) {
        let gap = if std::mem::take(&mut self.fresh) { 1 } else { self.gap_before(at) };
        self.due = self.due.max(gap);
    }

    /// One line break, or two if the author left a blank line there.
    fn gap_before(&self, at: usize) -> usize {
        let before = self.source.get(..at).unwrap_or_default().bytes().rev().take(GAP_BYTES);
        let breaks = before.take_while(|b| b.is_ascii_whitespace() || *b == b'>').filter(|&b| b == b'\n').count();
        breaks.clamp(1, 2)
    }

    fn push(&mut self, text: &str) {
        let text = clean::clean(text);
        if text.is_empty() {
            return;
        }
        if let Some(cell) = &mut self.cell {
            cell.push_str(&text.replace('\n', " "));
            return;
        }
        if self.due > 0 {
            self.break_line();
            self.indent();
        }
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                self.out.push('\n');
                self.indent();
            }
            self.out.push_str(line);
        }
        self.fresh = false;
    }

    /// Writes the line breaks that are due. The message begins without one.
    fn break_line(&mut self) {
        let due = std::mem::take(&mut self.due);
        if !self.out.is_empty() {
            self.out.extend(std::iter::repeat_n('\n', due));
        }
    }

    /// Moves a further line of an item below its first one.
    fn indent(&mut self) {
        if !self.lists.is_empty() {
            let width = (self.lists.len() - 1).min(DEEPEST) * INDENT + self.marker;
            self.out.extend(std::iter::repeat_n(' ', width));
        }
    }

    /// Where the next text goes, whichever text that is.
    fn position(&self) -> usize {
        self.cell.as_ref().unwrap_or(&self.out).len()
    }

    /// A table is drawn as one block, so nothing in it has a look of its own.
    fn span(&mut self, kind: EntityKind, start: usize) {
        if self.cell.is_none() {
            self.spans.push(Span::new(kind, start..self.out.len()));
        }
    }

    /// The dashes that make a heading of the lines above them. Models mean a rule by three, and one is the
    /// beginning of a list that is still being written: either way what was plain must not turn bold.
    fn dashes_below(&self, range: &Range<usize>) -> Option<String> {
        let (_, last) = self.source.get(range.clone())?.trim_end().rsplit_once('\n')?;
        let dashes = last.trim_start_matches(|c: char| c.is_whitespace() || c == '>');
        (!dashes.is_empty() && dashes.bytes().all(|b| b == b'-')).then(|| dashes.to_owned())
    }

    fn is_double_tilde(&self, range: &Range<usize>) -> bool {
        self.source.get(range.clone()).is_some_and(|source| source.starts_with("~~"))
    }
}

/// The first word behind a fence, if it can be a language.
fn language(info: &str) -> Option<String> {
    let word = info.split(|c: char| c.is_whitespace() || matches!(c, ',' | '{' | ':')).next()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '#' | '-' | '_' | '.');
    let fits = !word.is_empty() && word.len() <= 32 && word.chars().all(is_plain);
    fits.then(|| word.to_owned())
}
