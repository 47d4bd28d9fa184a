//! Which reporter a build gets.

use std::io::IsTerminal;

/// How progress is shown: what the user asks for with `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Progress {
    /// `tty` on a terminal, else `plain`.
    #[default]
    Auto,
    /// One live line per platform.
    Tty,
    /// Prefixed lines, for logs of CI.
    Plain,
    /// One event per line on standard output.
    Json,
    /// Nothing but errors.
    Quiet,
}

/// What is known of the place that the output goes to.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one terminal")]
pub(crate) struct Terminal {
    /// Whether standard error is a terminal.
    pub(crate) is_terminal: bool,
    /// Whether the terminal cannot move its cursor (`TERM=dumb`, or no TERM).
    pub(crate) is_dumb: bool,
    /// Whether this is a continuous integration service, whose terminals are often logs in truth.
    pub(crate) is_ci: bool,
    /// Whether the user wants no colours (`NO_COLOR`).
    pub(crate) no_color: bool,
    /// Whether the user wants colours even in files (`CLICOLOR_FORCE`).
    pub(crate) force_color: bool,
}

impl Terminal {
    /// What standard error and the environment say.
    pub(crate) fn detect() -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_on = |name: &str| std::env::var(name).is_ok_and(|v| !matches!(v.as_str(), "" | "0" | "false"));
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            is_dumb: std::env::var("TERM").is_ok_and(|term| term == "dumb" || term.is_empty())
                || std::env::var_os("TERM").is_none() && cfg!(unix),
            is_ci: is_on("CI"),
            no_color: is_set("NO_COLOR"),
            force_color: is_on("CLICOLOR_FORCE"),
        }
    }

    /// Whether human output gets colours.
    pub(crate) fn color(self) -> bool {
        !self.no_color && (self.force_color || (self.is_terminal && !self.is_dumb))
    }
}

impl Progress {
    /// What `Auto` means here. Anything else stays, but for a live display where there is no terminal to draw it on.
    pub(crate) fn resolve(self, terminal: Terminal) -> Self {
        match self {
            Self::Auto if terminal.is_terminal && !terminal.is_dumb && !terminal.is_ci => Self::Tty,
            Self::Auto => Self::Plain,
            Self::Tty if !terminal.is_terminal => Self::Plain,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_display_needs_a_terminal_that_can() {
        let able = Terminal { is_terminal: true, ..Terminal::default() };
        assert_eq!(Progress::Auto.resolve(able), Progress::Tty);
        assert_eq!(Progress::Auto.resolve(Terminal { is_dumb: true, ..able }), Progress::Plain);
        assert_eq!(Progress::Auto.resolve(Terminal { is_ci: true, ..able }), Progress::Plain);
        assert_eq!(Progress::Auto.resolve(Terminal::default()), Progress::Plain);
    }

    #[test]
    fn the_user_overrides_the_choice() {
        let ci = Terminal { is_terminal: true, is_ci: true, ..Terminal::default() };
        assert_eq!(Progress::Tty.resolve(ci), Progress::Tty);
        assert_eq!(Progress::Json.resolve(ci), Progress::Json);
        assert_eq!(Progress::Quiet.resolve(Terminal::default()), Progress::Quiet);
        assert_eq!(Progress::Tty.resolve(Terminal::default()), Progress::Plain);
    }

    #[test]
    fn no_color_wins() {
        let able = Terminal { is_terminal: true, ..Terminal::default() };
        assert!(able.color());
        assert!(!Terminal { no_color: true, force_color: true, ..able }.color());
        assert!(Terminal { force_color: true, ..Terminal::default() }.color());
        assert!(!Terminal::default().color());
    }
}
