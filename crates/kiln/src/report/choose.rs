//! Which reporter a build gets.

/// How progress is shown: what the user asks for with `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Progress {
    /// A terminal display if there is a terminal, else plain
    #[default]
    Auto,
    /// One line per platform that is kept up to date
    Tty,
    /// Lines with the platform in front, for logs
    Plain,
    /// One event per line as JSON, on standard output
    Json,
    /// What BuildKit would tell its clients, as lines of JSON on standard error
    #[value(name = "rawjson")]
    RawJson,
    /// Nothing but the paths of the artifacts, on standard output
    #[value(alias = "none")]
    Quiet,
}

/// What is known of the place that standard error goes to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terminal {
    /// Whether it is a terminal.
    pub(crate) is_tty: bool,
    /// Whether the terminal cannot move its cursor (`TERM` is `dumb`, or not set).
    pub(crate) is_dumb: bool,
    /// Whether this is a continuous integration service, whose terminals are logs in truth.
    pub(crate) is_ci: bool,
}

impl Terminal {
    /// What the environment says of it; `variable` gives the value of a variable that is set and not empty.
    pub(crate) fn new<'a>(is_tty: bool, variable: impl Fn(&str) -> Option<&'a str>) -> Self {
        Self {
            is_tty,
            // On Windows, terminals can do all they need to and TERM is not set.
            is_dumb: variable("TERM").map_or(cfg!(unix), |term| term == "dumb"),
            is_ci: variable("CI").is_some_and(|value| !matches!(value, "0" | "false")),
        }
    }
}

impl Progress {
    /// Whether someone reads along.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self, Self::Auto | Self::Tty | Self::Plain)
    }

    /// What `Auto` means here. Anything else stays, but for a live display where there is no terminal to draw it on.
    pub(crate) fn resolve(self, terminal: Terminal) -> Self {
        let Terminal { is_tty, is_dumb, is_ci } = terminal;
        match self {
            Self::Auto if is_tty && !is_dumb && !is_ci => Self::Tty,
            Self::Auto => Self::Plain,
            Self::Tty if !is_tty => Self::Plain,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(is_tty: bool, variables: &[(&'static str, &'static str)]) -> Terminal {
        Terminal::new(is_tty, |name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| *value))
    }

    #[test]
    fn the_live_display_needs_a_terminal_that_can() {
        let term = ("TERM", "xterm-256color");
        assert_eq!(Progress::Auto.resolve(terminal(true, &[term])), Progress::Tty);
        assert_eq!(Progress::Auto.resolve(terminal(true, &[term, ("CI", "false")])), Progress::Tty);
        assert_eq!(Progress::Auto.resolve(terminal(true, &[term, ("CI", "true")])), Progress::Plain);
        assert_eq!(Progress::Auto.resolve(terminal(true, &[("TERM", "dumb")])), Progress::Plain);
        assert_eq!(Progress::Auto.resolve(terminal(false, &[term])), Progress::Plain);
    }

    #[test]
    fn the_user_overrides_the_choice() {
        let ci = terminal(true, &[("TERM", "xterm"), ("CI", "1")]);
        assert_eq!(Progress::Tty.resolve(ci), Progress::Tty);
        assert_eq!(Progress::Json.resolve(ci), Progress::Json);
        assert_eq!(Progress::Quiet.resolve(Terminal::default()), Progress::Quiet);
        assert_eq!(Progress::Tty.resolve(Terminal::default()), Progress::Plain);
    }
}
