//! The console: calls a callback with each line of standard input, which may be of any kind.
//!
//! Ground rule: state that the console shares with other processes is not changed. `O_NONBLOCK`
//! belongs to the open file description, which the parent shell and its other children share.
//! Therefore this flag is set only on open file descriptions of our own; `input.rs` opens them. The
//! modes of a terminal are not changed at all.
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

/// The maximum number of lines and reads in one call; the rest follows next turn. The number is
/// enough for typed or pasted input, and small enough that a file of a million lines does not delay
/// the other sources.
const STEPS_PER_CALL_MAX: usize = 64;

/// Options for reading lines from standard input: the maximum length of a line, and the prompt.
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
    /// A line, without the `\n` or `\r\n` that ends it. The last line of the input need not have a
    /// line end.
    Line(&'a str),
    /// A line that is not UTF-8, without the `\n` or `\r\n` that ends it.
    NotText(&'a [u8]),
    /// A line is longer than [`Console::max_line_length`]. This is reported as soon as the received
    /// bytes of the line exceed the maximum. The rest of the line is skipped, and the next call
    /// reports the line after the one that is too long.
    TooLong,
    /// The input has ended. After this call the callback is not called again, except after ^D. The
    /// input ends in these cases:
    /// - A file is read to its end.
    /// - A pipe has no writer left.
    /// - A terminal is closed, or this process may not read from it (`EIO`).
    /// - The fd is closed, or not open for reading (`EBADF`).
    ///
    /// If ^D is typed at a terminal, `End` is reported too, but the terminal can still be read. To
    /// continue to read it, return [`Next::Keep`]. Another `End` may then follow. At the end of any
    /// other input the console ends, even if the callback returns [`Next::Keep`].
    End,
    /// A read has failed with this error, and the input cannot be read any more. This is the last
    /// call, and no [`End`](Self::End) follows.
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

    /// Sets the prompt. The console writes it to standard output when the console is opened, and
    /// again each time when all available lines have been reported. It is written only if standard
    /// output and the input are both terminals. A write error is ignored.
    ///
    /// The prompt is written through [`std::io::stdout`], so it appears after the earlier output.
    /// While the terminal is stopped by ^S, the write blocks the loop, like all output to a
    /// terminal.
    ///
    /// Default: no prompt.
    #[must_use]
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = prompt.into();
        self
    }

    /// Sets the maximum length of a line in bytes, without its line end. A longer line is reported
    /// as [`ConsoleInput::TooLong`]. A terminal itself allows at most 4095 bytes. Default: 64 KiB.
    #[must_use]
    pub const fn max_line_length(mut self, bytes: usize) -> Self {
        self.max_line_length = bytes;
        self
    }

    /// Calls `callback` on the loop for each line of standard input, and at the end of the input.
    /// The console ends after the end of the input. It also ends when the callback returns
    /// [`Next::Remove`] or an error, or when you pass the returned key to [`Registry::remove`]. The
    /// errors `WouldBlock` and `Interrupted` do not end the console: they have the same effect as
    /// [`Next::Keep`].
    ///
    /// Standard input may be a terminal, a pipe, a socket, a file, or `/dev/null`. It may also be
    /// closed, which counts as the end of the input and not as an error. At most 64 lines are
    /// reported in a turn. To pause, set the interest of the key to [`Interest::NONE`] by
    /// [`Registry::set_interest`]. No further lines are then reported until you set the interest to
    /// [`Interest::READABLE`] again.
    ///
    /// Call this method on the loop's thread. Open only one console at a time. If there were two,
    /// each would get only a part of the lines. Do not read from [`std::io::stdin`] before this
    /// call: it buffers ahead, and the lines in its buffer never reach the console.
    ///
    /// The console keeps [`Reactor::run`](reactor::Reactor::run) alive until the end of the input,
    /// which may never come at a terminal. To let `run` return before the end of the input, pass
    /// the key to [`set_background`](Registry::set_background).
    ///
    /// # Shared state
    /// The console never changes the flags of an open file description that other processes share,
    /// nor the modes of the terminal. So a crash of the program leaves no changed state behind. A
    /// terminal must be in canonical (line) mode, which is its default. The console reads in a way
    /// that depends on the input:
    /// - A terminal or a pipe is opened a second time, through `/proc`, so that its open file
    ///   description is not shared. The console does not do this if `/proc` is not mounted, if the
    ///   terminal or the pipe belongs to another user, for example after `su`, or if all writers of
    ///   the pipe have closed it. In these cases the input is polled before each read. If another
    ///   process takes the input between the poll and the read, the read blocks the loop until
    ///   there is more input or the input ends.
    /// - A socket is read by `recv(2)` with `MSG_DONTWAIT`.
    /// - A file is read from its current position.
    ///
    /// The console reads ahead: it may have read more bytes than it has reported as lines.
    /// Therefore, if another program reads the same file or pipe afterwards, it may miss some bytes
    /// after the last reported line.
    ///
    /// If this process is a background process of a shell and reads from the terminal, the kernel
    /// stops it by `SIGTTIN`. If this process ignores `SIGTTIN`, or has no parent left that could
    /// continue it, the console reports the end of the input.
    ///
    /// # Cost
    /// Opening costs one or two fds, and about a dozen system calls. A line costs O(length of the
    /// line) and up to two reads. The first lines allocate a buffer, which grows only for a longer
    /// line. Apart from that no memory is allocated.
    ///
    /// # Errors
    /// If an error is returned, nothing is registered.
    /// - `EMFILE` and other errors of the calls that open the input.
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop, or
    ///   [`Error::Os`](reactor::Error::Os) from `epoll_ctl(2)`; see [`Registry::add`].
    ///
    /// # Source
    /// - The shared flags: `F_SETFL` in `fcntl(2)`.
    /// - The second open: `/proc/pid/fd` in `proc(5)`.
    /// - The canonical mode: `termios(3)`.
    #[track_caller]
    pub fn open<S, F>(&self, registry: &mut Registry<S>, callback: F) -> io::Result<Key>
    where
        F: FnMut(ConsoleInput<'_>, &mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.open_on(registry, io::stdin(), callback)
    }

    /// Calls `callback` for each line of `input`, for example of `/dev/tty`, instead of standard
    /// input. Otherwise this works like [`open`](Self::open). The console uses an fd of its own, so
    /// you may close `input` after the call.
    ///
    /// # Errors
    /// If an error is returned, nothing is registered.
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
    /// ^D was typed at a terminal.
    Typed,
    Over,
    Failed(io::Error),
}

/// The handler that the loop calls for a console.
struct Reader<F> {
    lines: LineBuffer,
    /// Set when there is nothing more to read, until this is reported.
    end: Option<InputEnd>,
    prompt: Option<String>,
    /// Set if the callback has run since the last prompt.
    prompt_due: bool,
    callback: F,
}

impl<F> Reader<F> {
    /// Reports the lines of the buffer, and reads when the buffer has no complete line. So when a
    /// read would block, all complete lines are reported.
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
        .and_then(|()| stdout.flush()); // lines can be read without a prompt too
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
