//! The live display: one line per platform at the foot of the terminal, notices above.
//!
//! Each row is a line of its own for the terminal, so that it survives a resize, and a frame is one write, so that it
//! does not flicker. (A progress bar library would do neither: indicatif 0.18 fills rows up to the width and lets the
//! terminal wrap them into one long line.)

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use console::Term;
use kiln_solver::BuildEvent;

use super::board::Board;
use super::text::{Paint, width};

/// Least time between two frames.
const FRAME: Duration = Duration::from_millis(50);

/// Columns that rows leave free at their end, where the cursor stands: the terminal echoes `^C` there, and a line that wrapped
/// would shift the rows.
const ECHO: usize = 4;

/// Asks for the rows and columns of the terminal, anew for each frame: people resize their windows.
pub(super) type Size = Box<dyn Fn() -> (usize, usize) + Send>;

/// The live display.
pub(super) struct Tty<W> {
    out: W,
    size: Size,
    paint: Paint,
    board: Board,
    /// Lines that the next frame prints above the rows, for good.
    above: Vec<String>,
    /// What is on the screen. The cursor is at its end.
    shown: Vec<String>,
    drawn: Duration,
}

impl Tty<io::Stderr> {
    /// A display on standard error.
    pub(super) fn stderr(color: bool) -> Self {
        let term = Term::stderr();
        let size = Box::new(move || {
            let (rows, columns) = term.size();
            (usize::from(rows), usize::from(columns))
        });
        Self::new(io::stderr(), size, color)
    }
}

impl<W: Write> Tty<W> {
    /// A display on `out`, a terminal of the given size.
    pub(super) fn new(out: W, size: Size, color: bool) -> Self {
        Self {
            out,
            size,
            paint: Paint { color },
            board: Board::default(),
            above: Vec::new(),
            shown: Vec::new(),
            drawn: Duration::ZERO,
        }
    }

    /// Takes in an event, to be seen in the next frame.
    pub(super) fn event(&mut self, at: Duration, event: &BuildEvent) {
        self.above.extend(self.board.event(at, event));
    }

    /// Draws a frame if it is time for one.
    pub(super) fn draw(&mut self, at: Duration) -> io::Result<()> {
        if self.above.is_empty() && !self.shown.is_empty() && at.saturating_sub(self.drawn) < FRAME {
            return Ok(());
        }
        self.drawn = at;
        let (rows, columns) = (self.size)();
        let mut lines = self.board.lines(at, columns.saturating_sub(ECHO), self.paint);
        let room = rows.saturating_sub(1).max(1);
        if lines.len() > room {
            lines.truncate(room - 1);
            lines.push(format!("… and {} more", self.board.len() + 1 - room));
        }
        self.replace(lines, columns)
    }

    /// Ends the display. If every target has ended, a summary follows that says more than the rows: they vanish.
    /// Otherwise they stay as they were.
    pub(super) fn finish(mut self, at: Duration) -> io::Result<()> {
        let (_, columns) = (self.size)();
        if self.board.is_over() {
            return self.replace(Vec::new(), columns);
        }
        self.drawn = Duration::ZERO;
        self.draw(at)?;
        if self.shown.is_empty() { Ok(()) } else { self.out.write_all(b"\r\n") }
    }

    fn replace(&mut self, lines: Vec<String>, columns: usize) -> io::Result<()> {
        if self.above.is_empty() && lines == self.shown {
            return Ok(());
        }
        let mut frame = String::new();
        // Where the window has become narrower, the terminal has broken rows in two.
        let height: usize = self.shown.iter().map(|line| width(line).div_ceil(columns.max(1)).max(1)).sum();
        let broken = height > self.shown.len();
        frame.push('\r');
        if height > 1 {
            // Writing to a String cannot fail.
            let _ = write!(frame, "\x1b[{}A", height - 1);
        }
        if broken || lines.len() < self.shown.len() || !self.above.is_empty() {
            frame.push_str("\x1b[J");
        }
        for line in self.above.drain(..) {
            frame.push_str(&line);
            frame.push_str("\r\n");
        }
        for (index, line) in lines.iter().enumerate() {
            frame.push_str(if index > 0 { "\r\n" } else { "" });
            // First clear, then write: after a row that fills its line, a clear would take the last character.
            frame.push_str("\x1b[2K");
            frame.push_str(line);
        }
        self.shown = lines;
        self.out.write_all(frame.as_bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::report::script;

    /// A terminal in memory, with the size that the display believes in.
    #[derive(Clone)]
    struct Screen {
        terminal: Arc<Mutex<vt100::Parser>>,
        frames: Arc<Mutex<usize>>,
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.terminal.lock().unwrap().process(bytes);
            *self.frames.lock().unwrap() += 1;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn new(rows: u16, columns: u16) -> Self {
            let terminal = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 100)));
            Self { terminal, frames: Arc::default() }
        }

        fn tty(&self, color: bool) -> Tty<Self> {
            let (rows, columns) = self.terminal.lock().unwrap().screen().size();
            Tty::new(self.clone(), Box::new(move || (rows.into(), columns.into())), color)
        }

        fn text(&self) -> String {
            self.terminal.lock().unwrap().screen().contents()
        }

        fn cursor(&self) -> (u16, u16) {
            self.terminal.lock().unwrap().screen().cursor_position()
        }
    }

    fn play(tty: &mut Tty<Screen>, until: f64) {
        let until = Duration::from_secs_f64(until);
        for (at, event) in script::failing().into_iter().filter(|(at, _)| *at <= until) {
            tty.event(at, &event);
            tty.draw(at).unwrap();
        }
    }

    #[test]
    fn rows_stay_at_the_foot_and_notices_above() {
        let screen = Screen::new(24, 80);
        let mut tty = screen.tty(true);
        play(&mut tty, 9.0);
        insta::assert_snapshot!("tty_running", screen.text());
    }

    #[test]
    fn a_build_that_is_over_leaves_only_what_was_printed_above() {
        let screen = Screen::new(24, 80);
        let mut tty = screen.tty(false);
        play(&mut tty, 60.0);
        tty.finish(Duration::from_mins(1)).unwrap();
        insta::assert_snapshot!("tty_over", screen.text());
        assert_eq!(screen.cursor(), (5, 0), "what follows starts on a line of its own");
    }

    #[test]
    fn a_build_that_was_stopped_leaves_its_rows() {
        let screen = Screen::new(24, 80);
        let mut tty = screen.tty(false);
        play(&mut tty, 2.3);
        tty.finish(Duration::from_secs_f64(2.4)).unwrap();
        assert_eq!(screen.text().matches("linux/arm64  ").count(), 1, "{}", screen.text());
        assert_eq!(screen.cursor(), (4, 0));
    }

    #[test]
    fn nothing_but_notices_is_drawn_before_the_plan() {
        let screen = Screen::new(24, 80);
        let mut tty = screen.tty(false);
        play(&mut tty, 0.0);
        tty.finish(Duration::ZERO).unwrap();
        assert_eq!(screen.text(), "note: linux/arm64: QEMU for linux/arm64 was installed on the daemon");
    }

    #[test]
    fn rows_that_fill_their_line_do_not_wrap() {
        for columns in 20..60 {
            let screen = Screen::new(24, columns);
            let mut tty = screen.tty(true);
            play(&mut tty, 2.3);
            assert_eq!(screen.text().matches("linux/arm64  ").count(), 1, "{columns}: {}", screen.text());
        }
    }

    #[test]
    fn a_low_terminal_shows_what_fits() {
        let screen = Screen::new(3, 80);
        let mut tty = screen.tty(false);
        play(&mut tty, 2.3);
        assert!(screen.text().ends_with("… and 2 more"), "{}", screen.text());
    }

    #[test]
    fn frames_come_at_a_bounded_rate() {
        let screen = Screen::new(24, 80);
        let mut tty = screen.tty(false);
        play(&mut tty, 0.2);
        *screen.frames.lock().unwrap() = 0;
        for tenth in 0..10_000 {
            tty.draw(Duration::from_secs(1) + Duration::from_micros(100 * tenth)).unwrap();
        }
        assert!(*screen.frames.lock().unwrap() <= 21);
    }
}
