//! The console: lines from standard input, whatever that is, as callbacks.
//!
//! Ground rule: what the console shares with others stays as it is. `O_NONBLOCK` belongs to the open file description,
//! which the shell that started us and its other children hold too, so it is set on descriptions of our own only
//! (`input.rs` says where they come from); and the modes of a terminal are not touched at all.
//!
//! [`std::io::stdin`] reads ahead into a buffer of its own: who has used it to read has taken lines that come here no
//! more.

mod input;
mod lines;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};

use reactor::{Context, Interest, Io, Key, Next, Registry};

use self::input::Input;
use self::lines::{ConsoleLine, LineBuffer};
use crate::error;

/// So many lines are told, or reads made, in one call; the rest next turn. Enough for what is typed or pasted, and a
/// file of a million lines holds up nobody.
const STEPS_PER_CALL_MAX: usize = 64;

/// How lines are read from standard input: the limit of a line, the prompt.
///
/// ```no_run
/// use handlers::{Console, ConsoleInput};
/// use reactor::{Next, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::<Vec<String>>::new()?;
/// Console::new().prompt("> ").open(&mut reactor, |input, cx| {
///     match input {
///         ConsoleInput::Line("quit") | ConsoleInput::End => return Ok(Next::Remove),
///         ConsoleInput::Line(line) => cx.state.push(line.to_owned()),
///         ConsoleInput::NotText(_) | ConsoleInput::TooLong => eprintln!("what?"),
///         ConsoleInput::Failed(error) => return Err(error),
///     }
///     Ok(Next::Keep)
/// })?;
/// reactor.run(&mut Vec::new())?; // until the end of input, or "quit"
/// # Ok(())
/// # }
/// ```
#[doc(alias("stdin", "uv_tty_t"))]
#[derive(Clone, Debug)]
pub struct Console {
    prompt: String,
    max_line_length: usize,
}

/// What has come in.
#[derive(Debug)]
pub enum ConsoleInput<'a> {
    /// A line, without the `\n` or `\r\n` that ends it; the last one of the input needs none.
    Line(&'a str),
    /// A line that is no UTF-8, likewise.
    NotText(&'a [u8]),
    /// A line that is longer than [`Console::max_line_length`]: told as soon as that is known. The rest of it is skipped, and
    /// what comes next is the line after it.
    TooLong,
    /// The input has ended, the last call: the end of a file, nobody left who could write to the pipe, a terminal that
    /// is gone (or a terminal that belongs to others, `EIO`), an fd that is closed or not for reading (`EBADF`).
    ///
    /// Or it was typed at a terminal, by ^D, which can be read on: an outcome of [`Next::Keep`] does so, and only then
    /// there may be another one. On anything else there is nothing to keep, and the outcome makes no difference.
    End,
    /// It cannot be read any more, for this reason; the last call, instead of [`End`](Self::End).
    Failed(io::Error),
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// Lines of at most 64 KiB, without a prompt.
    pub const fn new() -> Self {
        Self {
            prompt: String::new(),
            max_line_length: 64 * 1024,
        }
    }

    /// What invites to type. It is written to standard output if that and the input are both terminals, when the
    /// console is opened and each time that it has told all lines there are; never otherwise. An error in writing it is
    /// ignored.
    ///
    /// It goes through [`std::io::stdout`], so it comes behind what was printed. Like all that is printed it blocks
    /// while the terminal is stopped, by ^S.
    #[must_use]
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = prompt.into();
        self
    }

    /// How many bytes a line may have, without its end: 64 KiB by default. (A terminal by itself allows 4095.)
    #[must_use]
    pub const fn max_line_length(mut self, bytes: usize) -> Self {
        self.max_line_length = bytes;
        self
    }

    /// Calls `callback` on the loop for each line of standard input, and for its end. It ends with that, with
    /// [`Next::Remove`], an error or [`Registry::remove`]; `WouldBlock` and `Interrupted` are [`Next::Keep`].
    ///
    /// Standard input may be a terminal, a pipe, a socket, a file, `/dev/null`, or closed: that is an end of input, and
    /// no error. Up to 64 lines are told in a turn. A callback that sets its interest to [`Interest::NONE`] gets no
    /// more of them until it wants to read again: [`Registry::set_interest`].
    ///
    /// The console keeps [`Reactor::run`](reactor::Reactor::run) alive until the end of input, which a terminal may
    /// never see: [`set_background`](Registry::set_background) changes that.
    ///
    /// # What others share
    /// Neither the flags of the open file description nor the modes of the terminal are changed, at any time, so there
    /// is nothing that a crash could leave behind. A terminal is expected to work by lines, as it does by default.
    /// - A terminal or a pipe is opened once more, through `/proc`, for a description of our own. Where that fails (no
    ///   `/proc`, a terminal of another user after `su`), it is asked whether there is something before each read: if
    ///   another process takes that in between, the loop waits for more.
    /// - A socket is read by `recv(2)` with `MSG_DONTWAIT`.
    /// - A file is read on from where it stands. Bytes are read ahead of lines: a program that reads the same file or
    ///   pipe after us finds it some way behind the last line told.
    ///
    /// A process in the background that reads from its terminal is stopped by the kernel (`SIGTTIN`); where it ignores
    /// that or has no parent left to wake it, this is the end of input.
    ///
    /// One fd or two, a dozen system calls. A line costs O(its length), and up to two reads; in the steady state it
    /// allocates nothing. Loop thread only, and one console at a time: two would each get some of the lines.
    ///
    /// # Errors
    /// What [`Registry::add`] gives; `EMFILE` and the like. Nothing is registered then.
    ///
    /// # Source
    /// `fcntl(2)`, `F_SETFL`, on what is shared; `proc(5)`, `/proc/pid/fd`; `termios(3)`, canonical mode.
    #[track_caller]
    pub fn open<S, F>(&self, registry: &mut Registry<S>, callback: F) -> io::Result<Key>
    where
        F: FnMut(ConsoleInput<'_>, &mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.open_on(registry, io::stdin(), callback)
    }

    /// The same for another input than the standard one, `/dev/tty` for one, which it duplicates: that may be closed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[track_caller]
    pub fn open_on<S, F>(
        &self,
        registry: &mut Registry<S>,
        input: impl AsFd,
        callback: F,
    ) -> io::Result<Key>
    where
        F: FnMut(ConsoleInput<'_>, &mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        let fd = input.as_fd();
        let named = |error| error::named(format_args!("console on fd {}", fd.as_raw_fd()), error);
        let input = Input::of(fd).map_err(named)?;
        let is_dialogue =
            !self.prompt.is_empty() && input.is_terminal() && io::stdout().is_terminal();
        let prompt = is_dialogue.then(|| self.prompt.clone());
        let lines = LineBuffer::new(self.max_line_length);
        let mut reader = Reader {
            lines,
            end: None,
            prompt,
            prompt_due: false,
            callback,
        };
        let key = registry.add(input, Interest::READABLE, move |io, cx| reader.read(io, cx))?;
        if is_dialogue {
            write_prompt(&self.prompt);
        }
        Ok(key)
    }
}

/// How the input has ended.
enum InputEnd {
    /// By ^D.
    Typed,
    Over,
    Failed(io::Error),
}

/// What the loop calls for a console.
struct Reader<F> {
    lines: LineBuffer,
    /// There is nothing more to read, and that has not been told yet.
    end: Option<InputEnd>,
    prompt: Option<String>,
    /// Something has been told since the last prompt.
    prompt_due: bool,
    callback: F,
}

impl<F> Reader<F> {
    /// Delivers the lines of the buffer, and reads when there are none: where a read would block, none is left in the
    /// buffer.
    fn read<S>(&mut self, io: &mut Io<Input>, cx: &mut Context<'_, S>) -> io::Result<Next>
    where
        F: FnMut(ConsoleInput<'_>, &mut Context<'_, S>) -> io::Result<Next>,
    {
        for _ in 0..STEPS_PER_CALL_MAX {
            let found = if self.end.is_none() {
                self.lines.next()
            } else {
                self.lines.last()
            };
            let goes_on = if let Some(found) = found {
                self.prompt_due = true;
                error::next((self.callback)(found.into(), cx))? == Next::Keep
            } else if let Some(end) = self.end.take() {
                self.prompt_due = true;
                let is_last = !matches!(end, InputEnd::Typed);
                error::next((self.callback)(end.into(), cx))? == Next::Keep && !is_last
            } else {
                self.fill(io)?;
                continue;
            };
            if !goes_on {
                return Ok(Next::Remove);
            }
            // It may have been removed, or told to rest.
            if !cx
                .registry
                .interest(cx.key())
                .is_ok_and(|interest| interest.contains(Interest::READABLE))
            {
                break;
            }
        }
        Ok(Next::Keep)
    }

    /// Reads once.
    fn fill(&mut self, io: &mut Io<Input>) -> io::Result<()> {
        match io.try_io(Interest::READABLE, |input| input.read(self.lines.room())) {
            Ok(0) if io.get_ref().is_terminal() => self.end = Some(InputEnd::Typed),
            Ok(0) => self.end = Some(InputEnd::Over),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.show_prompt();
                return Err(error);
            }
            Err(error) if io.get_ref().is_over(&error) => self.end = Some(InputEnd::Over),
            Err(error) => self.end = Some(InputEnd::Failed(error)),
        }
        Ok(())
    }

    /// Shows the prompt, if the callback has run since the last one and may have printed something.
    fn show_prompt(&mut self) {
        if let (Some(prompt), true) = (&self.prompt, std::mem::take(&mut self.prompt_due)) {
            write_prompt(prompt);
        }
    }
}

fn write_prompt(prompt: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(prompt.as_bytes())
        .and_then(|()| stdout.flush()); // the lines matter, also without it
}

impl<'a> From<ConsoleLine<'a>> for ConsoleInput<'a> {
    fn from(found: ConsoleLine<'a>) -> Self {
        match found {
            ConsoleLine::Whole(line) => {
                std::str::from_utf8(line).map_or(Self::NotText(line), Self::Line)
            }
            ConsoleLine::TooLong => Self::TooLong,
        }
    }
}

impl From<InputEnd> for ConsoleInput<'_> {
    fn from(end: InputEnd) -> Self {
        match end {
            InputEnd::Typed | InputEnd::Over => Self::End,
            InputEnd::Failed(error) => Self::Failed(error),
        }
    }
}
