//! What is on its way right now, shown while it goes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_cache::Traffic;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::event::{BuildEvent, Direction, EventSender, Transfer};
use crate::shared::lock;

/// What is over sooner is not shown.
const SOON: Duration = Duration::from_millis(300);
/// Time between two looks.
const OFTEN: Duration = Duration::from_millis(250);

/// Everything that goes one way in a build.
pub(crate) struct Road {
    direction: Direction,
    /// The store that was asked last.
    place: Mutex<Option<String>>,
    /// What is counted.
    pub(crate) traffic: Traffic,
}

impl Road {
    pub(crate) fn new(direction: Direction) -> Arc<Self> {
        Arc::new(Self { direction, place: Mutex::default(), traffic: Traffic::default() })
    }

    /// A store is asked, or given something.
    pub(crate) fn to(&self, place: String) {
        *lock(&self.place) = Some(place);
    }

    /// Works, and tells how far it is meanwhile.
    pub(crate) async fn show<T>(&self, events: &EventSender, mut work: impl Future<Output = T> + Unpin) -> T {
        let mut ticks = interval_at(Instant::now() + SOON, OFTEN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown: Option<Transfer> = None;
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _ = ticks.tick() => {
                    if let Some(now) = self.now().filter(|now| shown.as_ref() != Some(now)) {
                        shown = Some(now.clone());
                        tell(events, now, false);
                    }
                }
            }
        };
        if let Some(now) = shown.and_then(|_| self.now()) {
            tell(events, now, true);
        }
        done
    }

    fn now(&self) -> Option<Transfer> {
        let place = lock(&self.place).clone()?;
        let (known, moved) = self.traffic.counts();
        // What is still being packed is not known.
        let total = (self.direction == Direction::Restoring).then_some(known);
        Some(Transfer { direction: self.direction, place, moved, total })
    }
}

fn tell(events: &EventSender, transfer: Transfer, ended: bool) {
    // The work does not wait for a reporter that is behind.
    let _ = events.try_send(BuildEvent::Travelling { transfer, ended });
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::sleep;

    use super::*;

    fn told(received: &mut mpsc::Receiver<BuildEvent>) -> Vec<(u64, Option<u64>, bool)> {
        let mut all = Vec::new();
        while let Ok(event) = received.try_recv() {
            let BuildEvent::Travelling { transfer, ended } = event else { panic!("{event:?}") };
            assert_eq!(transfer.place, "s3://caches");
            all.push((transfer.moved, transfer.total, ended));
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_a_while_is_told_now_and_then() {
        let (events, mut received) = mpsc::channel(64);
        let road = Road::new(Direction::Restoring);
        let work = async {
            sleep(Duration::from_millis(400)).await;
            road.to("s3://caches".to_owned());
            sleep(Duration::from_millis(500)).await;
            road.traffic.expect(40);
            for _ in 0..4 {
                sleep(Duration::from_secs(1)).await;
                road.traffic.moved(10);
            }
            "done"
        };
        assert_eq!(road.show(&events, Box::pin(work)).await, "done");
        let expected = [0, 40, 40, 40, 40, 40].into_iter().zip([0, 0, 10, 20, 30, 40]);
        let expected: Vec<_> = expected.map(|(total, moved)| (moved, Some(total), moved == 40)).collect();
        assert_eq!(told(&mut received), expected, "only what is new, and the end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_at_once_is_not_told() {
        let (events, mut received) = mpsc::channel(64);
        let road = Road::new(Direction::Saving);
        road.to("s3://caches".to_owned());
        road.show(&events, Box::pin(sleep(Duration::from_millis(250)))).await;
        assert_eq!(told(&mut received), []);
        // Nobody listens: the work goes on.
        drop(received);
        road.show(&events, Box::pin(sleep(Duration::from_secs(9)))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn how_much_there_is_to_save_is_not_known() {
        let (events, mut received) = mpsc::channel(1);
        let road = Road::new(Direction::Saving);
        road.to("s3://caches".to_owned());
        road.traffic.expect(9);
        road.show(&events, Box::pin(sleep(Duration::from_secs(9)))).await;
        assert_eq!(told(&mut received), [(0, None, false)], "the reporter is behind");
    }
}
