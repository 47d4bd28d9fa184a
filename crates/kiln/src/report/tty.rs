//! The live display: one line per platform at the foot of the terminal, notices above.

use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kiln_solver::BuildEvent;

use super::board::Board;
use super::text::Paint;

/// Frames per second at most.
const RATE: u8 = 20;

/// Columns of the terminal, asked anew for each frame: people resize their windows.
pub(super) type Columns = Box<dyn Fn() -> usize + Send>;

/// The live display.
pub(super) struct Tty {
    board: Board,
    /// All rows are one message, so that a frame is drawn as a whole.
    bar: ProgressBar,
    columns: Columns,
    paint: Paint,
}

impl Tty {
    /// A display on standard error.
    pub(super) fn stderr(color: bool) -> Self {
        let term = Term::stderr();
        let columns = Box::new(move || usize::from(term.size().1));
        Self::new(ProgressDrawTarget::term(Term::buffered_stderr(), RATE), columns, color)
    }

    pub(super) fn new(target: ProgressDrawTarget, columns: Columns, color: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is constant"));
        Self { board: Board::default(), bar, columns, paint: Paint { color } }
    }

    /// Takes in an event; rows are drawn by [`Tty::draw`].
    pub(super) fn event(&mut self, at: Duration, event: &BuildEvent) {
        for line in self.board.event(at, event) {
            self.bar.println(line);
        }
    }

    /// Draws the rows as they are now.
    pub(super) fn draw(&mut self, at: Duration) {
        let columns = (self.columns)();
        let lines = self.board.lines(at, columns, self.paint);
        self.bar.set_message(lines.join("\n"));
    }

    /// Ends the display. If every target has ended, a summary follows that says more than the rows: they vanish.
    /// Otherwise they stay as they were.
    pub(super) fn finish(mut self, at: Duration) {
        if self.board.is_over() {
            self.bar.finish_and_clear();
        } else {
            self.draw(at);
            self.bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;
    use crate::report::script;

    fn play(until: f64, term: &InMemoryTerm) -> Tty {
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let mut tty = Tty::new(target, Box::new(|| 80), false);
        let until = Duration::from_secs_f64(until);
        for (at, event) in script::failing().into_iter().filter(|(at, _)| *at <= until) {
            tty.event(at, &event);
            tty.draw(at);
        }
        tty
    }

    #[test]
    fn rows_stay_at_the_foot_and_notices_above() {
        let term = InMemoryTerm::new(24, 80);
        let _tty = play(9.0, &term);
        insta::assert_snapshot!("tty_running", term.contents());
    }

    #[test]
    fn a_build_that_is_over_leaves_only_what_was_printed_above() {
        let term = InMemoryTerm::new(24, 80);
        play(60.0, &term).finish(Duration::from_mins(1));
        insta::assert_snapshot!("tty_over", term.contents());
    }

    #[test]
    fn a_build_that_was_stopped_leaves_its_rows() {
        let term = InMemoryTerm::new(24, 80);
        play(2.3, &term).finish(Duration::from_secs_f64(2.4));
        assert!(term.contents().contains("linux/arm64"), "{}", term.contents());
    }

    #[test]
    fn nothing_is_drawn_before_the_plan() {
        let term = InMemoryTerm::new(24, 80);
        play(0.0, &term).finish(Duration::ZERO);
        assert_eq!(term.contents(), "note: linux/arm64: QEMU for linux/arm64 was installed on the daemon");
    }
}
