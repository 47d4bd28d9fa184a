//! Stopping a build: once gracefully, twice by force.

use tokio_util::sync::CancellationToken;

use crate::error::{Result, SolveError};

/// A request to stop, shared by everything that waits.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Cancel {
    /// A request that nobody has made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop: containers get SIGTERM and some seconds.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Asks to stop at once: containers are killed.
    pub fn kill(&self) {
        self.stop.cancel();
        self.kill.cancel();
    }

    /// Whether somebody asked.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether somebody asked twice.
    pub fn is_killed(&self) -> bool {
        self.kill.is_cancelled()
    }

    /// Waits until somebody asks.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Waits until somebody asks twice.
    pub async fn killed(&self) {
        self.kill.cancelled().await;
    }

    /// Does `work`, unless somebody asks to stop: then it is dropped where it stands. Not for work that would leave
    /// something behind.
    ///
    /// # Errors
    /// [`SolveError::Cancelled`] if somebody asked.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(SolveError::Cancelled),
            done = work => Ok(done),
        }
    }

    /// The result of `work`, unless somebody asks to stop before it is there: then `work` is dropped.
    pub(crate) async fn or_stop<T, E: Into<SolveError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T> {
        self.unless_stopped(work).await?.map_err(Into::into)
    }

    /// The result of `work`, unless somebody asks twice before it is there.
    pub(crate) async fn or_kill<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.killed() => Err(SolveError::Cancelled),
        }
    }

    /// A request that follows this one but can be made on its own.
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), kill: self.kill.child_token() }
    }
}
