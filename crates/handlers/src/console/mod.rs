//! The console: lines from standard input, of whatever kind it is, as callbacks.
//!
//! Ground rule: state that the console shares with other processes is not changed. `O_NONBLOCK`
//! belongs to the open file description, which the parent shell and its other children share. It is
//! therefore set only on descriptions of our own; `input.rs` shows how they are opened. The modes
//! of a terminal are not changed at all.
//!
//! Do not read from [`std::io::stdin`] beforehand: it buffers ahead, and the lines in its buffer
//! never reach the console.

mod input;
mod lines;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};

use reactor::{Context, Interest, Io, Key, Next, Registry};

use self::input::Input;
use self::lines::{ConsoleLine, LineBuffer};
use crate::error;

/// The maximum number of lines and reads in one call; the rest follows next turn. It is enough for
/// typed or pasted input, and a file of a million lines does not delay the other sources.
const STEPS_PER_CALL_MAX: usize = 64;

/// Options for reading lines from standard input: the limit of a line, the prompt.
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

/// The input that a console passes to its callback.
#[derive(Debug)]
pub enum ConsoleInput<'a> {
    /// A line, without the `\n` or `\r\n` that ends it. The last line of the input needs no line
    /// ending.
    Line(&'a str),
    /// A line that is not UTF-8, without the `\n` or `\r\n` that ends it.
    NotText(&'a [u8]),
    /// A line that is longer than [`Console::max_line_length`]. It is reported as soon as this is
    /// known. The rest of the line is skipped, and the next call is for the line after it.
    TooLong,
    /// The input has ended; the last call. The input ends at the end of a file, when a pipe has no
    /// writer left, when a terminal is closed (or belongs to other processes, `EIO`), and if the fd
    /// is closed or not open for reading (`EBADF`).
    ///
    /// ^D at a terminal also ends the input, but the terminal can be read further: return
    /// [`Next::Keep`] to continue. Only then can there be another `End`. For any other input the
    /// outcome makes no difference.
    End,
    /// The input cannot be read any more, for this reason. This is the last call, in place of
    /// [`End`](Self::End).
    Failed(io::Error),
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// Returns the default options: lines of at most 64 KiB, no prompt.
    pub const fn new() -> Self {
        Self {
            prompt: String::new(),
            max_line_length: 64 * 1024,
        }
    }

    /// Sets the prompt. It is written to standard output if that and the input are both terminals:
    /// when the console is opened, and each time that all available lines have been reported.
    /// Otherwise it is never written. A write error is ignored. Default: no prompt.
    ///
    /// The prompt goes through [`std::io::stdout`], so it follows earlier output. Like all output
    /// it blocks while the terminal is stopped, by ^S.
    #[must_use]
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = prompt.into();
        self
    }

    /// Sets the maximum length of a line in bytes, without its line ending. (A terminal itself
    /// allows 4095.) Default: 64 KiB.
    #[must_use]
    pub const fn max_line_length(mut self, bytes: usize) -> Self {
        self.max_line_length = bytes;
        self
    }

    /// Calls `callback` on the loop for each line of standard input, and at its end. The console
    /// ends after the end of input, if the callback returns [`Next::Remove`] or an error, or by
    /// [`Registry::remove`]. `WouldBlock` and `Interrupted` count as [`Next::Keep`].
    ///
    /// Standard input may be a terminal, a pipe, a socket, a file, `/dev/null`, or closed, which
    /// counts as the end of input and not as an error. At most 64 lines are reported in a turn. To
    /// pause, set the interest to [`Interest::NONE`] by [`Registry::set_interest`]; no further
    /// lines are reported until the interest is [`Interest::READABLE`] again. Loop thread only.
    /// Open one console at a time: two would each get a part of the lines.
    ///
    /// The console keeps [`Reactor::run`](reactor::Reactor::run) alive until the end of input,
    /// which may never come at a terminal. Use [`set_background`](Registry::set_background) to
    /// change that.
    ///
    /// # Shared state
    /// Neither the flags of the open file description nor the modes of the terminal are ever
    /// changed, so a crash leaves nothing behind. A terminal is expected to be in canonical (line)
    /// mode, its default.
    /// - A terminal or a pipe is opened a second time, through `/proc`, for a description of our
    ///   own. If that fails (no `/proc`, or a terminal of another user after `su`), the input is
    ///   polled before each read. If another process takes the input in between, the loop waits for
    ///   more.
    /// - A socket is read by `recv(2)` with `MSG_DONTWAIT`.
    /// - A file is read from its current position. Bytes are read ahead of lines: a program that
    ///   reads the same file or pipe afterwards starts some bytes after the last reported line.
    ///
    /// If a process in the background reads from its terminal, the kernel stops it (`SIGTTIN`). If
    /// the process ignores that signal, or no parent is left to continue it, the console reports
    /// the end of input.
    ///
    /// # Cost
    /// One or two fds, and about a dozen system calls. A line costs O(its length) and up to two
    /// reads. In the steady state it allocates nothing.
    ///
    /// # Errors
    /// Nothing is registered after an error.
    /// - `EMFILE` and other errors of the calls that open the input.
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
    ///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
    ///
    /// # Source
    /// `fcntl(2)`, `F_SETFL`, on what is shared; `proc(5)`, `/proc/pid/fd`; `termios(3)`, canonical
    /// mode.
    #[track_caller]
    pub fn open<S, F>(&self, registry: &mut Registry<S>, callback: F) -> io::Result<Key>
    where
        F: FnMut(ConsoleInput<'_>, &mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.open_on(registry, io::stdin(), callback)
    }

    /// Reads lines from another input than standard input, as [`open`](Self::open) does:
    /// `/dev/tty`, for example. The fd is duplicated, so the caller may close it.
    ///
    /// # Errors
    /// Nothing is registered after an error.
    /// - `EMFILE` and other errors of the calls that open the input.
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
    ///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
    ///
    /// ```
    /// use std::io::Write;
    /// use handlers::{Console, ConsoleInput};
    /// use reactor::{Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (input, mut typed) = std::io::pipe()?;
    /// let mut reactor = Reactor::<Vec<String>>::new()?;
    /// Console::new().open_on(&mut reactor, &input, |input, cx| {
    ///     if let ConsoleInput::Line(line) = input {
    ///         cx.state.push(line.to_owned());
    ///     }
    ///     Ok(Next::Keep)
    /// })?;
    /// typed.write_all(b"one\ntwo\n")?;
    /// drop(typed);
    /// let mut lines = Vec::new();
    /// reactor.run(&mut lines)?; // until the end of input
    /// assert_eq!(lines, ["one", "two"]);
    /// # Ok(())
    /// # }
    /// ```
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

/// The end of the input.
enum InputEnd {
    /// By ^D at a terminal.
    Typed,
    Over,
    Failed(io::Error),
}

/// The handler that the loop calls for a console.
struct Reader<F> {
    lines: LineBuffer,
    /// Set if there is nothing more to read, until this is reported.
    end: Option<InputEnd>,
    prompt: Option<String>,
    /// Set if the callback has run since the last prompt.
    prompt_due: bool,
    callback: F,
}

impl<F> Reader<F> {
    /// Reports the lines of the buffer, and reads when there are none. So when a read would block,
    /// the buffer has no complete line.
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
            // The callback may have removed or paused the console.
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
        .and_then(|()| stdout.flush()); // the lines work without the prompt too
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
