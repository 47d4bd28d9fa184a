//! Checkpoints that are on their way to the daemon while the build counts on them already.
//!
//! What does not need one goes on meanwhile, such as another platform whose checkpoint was there sooner. One that does
//! not arrive after all is no error: the build is planned once more, without it.

use std::collections::{BTreeMap, HashMap};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use kiln_docker::{Image, ImageId};
use kiln_graph::{ImageConfig, Platform};
use tokio::sync::oneshot;

/// The end of a journey; an error if what was awaited does not come.
pub(crate) type Arrival = Shared<oneshot::Receiver<()>>;

/// What is on its way.
#[derive(Clone, Default)]
pub(crate) struct Arrivals {
    expected: HashMap<ImageId, (Image, Arrival)>,
    /// All of it, and what is to be done afterwards.
    work: Option<Shared<BoxFuture<'static, ()>>>,
}

impl Arrivals {
    /// Counts on a checkpoint. Whoever brings it says so to what is returned, or drops it.
    pub(crate) fn expect(
        &mut self,
        id: ImageId,
        platform: Platform,
        labels: BTreeMap<String, String>,
    ) -> oneshot::Sender<()> {
        let (sender, receiver) = oneshot::channel();
        let image = Image {
            id: id.clone(),
            platform,
            config: ImageConfig::default(),
            labels,
            size: 0,
            // Which of several is the newest nobody asks: there is one of a key.
            created: 0,
            repo_digests: Vec::new(),
            tags: Vec::new(),
            layers: Vec::new(),
            parent: None,
        };
        self.expected.insert(id, (image, receiver.shared()));
        sender
    }

    /// Says what brings all of it.
    pub(crate) fn follow(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.work = Some(work.boxed().shared());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    /// What the daemon will say of what is expected.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Image> {
        self.expected.values().map(|(image, _)| image)
    }

    /// The arrival of an image; none if it is there.
    pub(crate) fn of(&self, image: &ImageId) -> Option<Arrival> {
        self.expected.get(image).map(|(_, arrival)| arrival.clone())
    }

    /// Waits until nothing is on its way any more.
    pub(crate) async fn settled(&self) {
        if let Some(work) = self.work.clone() {
            work.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use kiln_docker::{Engine, labels};
    use kiln_graph::{Arch, BuildGraph, Exec, Network, Op, Origin, Source, Target, VertexId};
    use kiln_testkit::{FakeEngine, Files, Outcome};
    use tokio::sync::mpsc;

    use super::*;
    use crate::event::BuildEvent;
    use crate::{BuildRequest, Cancel, Group, Output, Plan, RunSettings};

    const AMD64: Platform = Platform::linux(Arch::Amd64);
    /// Longer than any of these builds takes.
    const HANG: Duration = Duration::from_secs(20);

    fn run(graph: &mut BuildGraph, on: VertexId, line: &str) -> VertexId {
        let exec = Exec {
            argv: vec![line.to_owned()],
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            platform: AMD64,
            mounts: Vec::new(),
            network: Network::Default,
            privileged: false,
            files: Vec::new(),
        };
        let origin = Origin { text: line.to_owned(), ..Origin::default() };
        graph.insert(Op::Exec(Box::new(exec)), vec![on], origin, false)
    }

    /// Builds `second`, which stands on `first`, and `other`, which does not; `first` is on its way, and arrives or does not
    /// when `other` is finished. The steps that started before that and after it.
    async fn build(comes: bool) -> [Vec<String>; 2] {
        let fake = FakeEngine::new(Arch::Amd64);
        fake.on_run(|_| Outcome::default());
        let mut graph = BuildGraph::default();
        let base = fake.add_image("base", AMD64, ImageConfig::default(), Files::new());
        let source = Source::Image { reference: "base".to_owned(), id: base.0, platform: AMD64 };
        let base = graph.insert(Op::Source(source), Vec::new(), Origin::default(), false);
        let first = run(&mut graph, base, "first");
        let second = run(&mut graph, first, "second");
        let other = run(&mut graph, base, "other");
        for (name, root) in [("second", second), ("other", other)] {
            let target = Target { name: name.to_owned(), platform: AMD64, root, config: ImageConfig::default() };
            graph.targets.push(target);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let request = BuildRequest {
            id: "test".to_owned(),
            owner: "host/1/1".to_owned(),
            scope: "project".to_owned(),
            graph,
            contexts: BTreeMap::new(),
            outputs: vec![Output::Nothing, Output::Nothing],
            groups: vec![Group { targets: 0..2, ..Group::default() }],
            run: RunSettings::default(),
            parallel: 8,
            keep_going: true,
            keep_failed: false,
            no_cache_mounts: false,
            state: folder.path().join("state"),
            locks: folder.path().join("locks"),
        };
        // It is there, but the listing does not tell which step it is of.
        let image = fake.add_image("unknown", AMD64, ImageConfig::default(), Files::new());
        let engine: Arc<dyn Engine> = Arc::new(fake.clone());
        let plan = Plan::make(&engine, request).await.expect("a plan");
        let labels = BTreeMap::from([(labels::KEY.to_owned(), plan.key(first).to_string())]);
        let mut arrivals = Arrivals::default();
        let mut sender = Some(arrivals.expect(image, AMD64, labels));
        let plan = Plan::counting_on(&engine, plan.request, arrivals).await.expect("a plan");
        let (out, mut events) = mpsc::channel(64);
        let watching = async {
            let (mut before, mut after) = (Vec::new(), Vec::new());
            while let Some(event) = events.recv().await {
                match event {
                    BuildEvent::StepStarted { origin, .. } if sender.is_some() => before.push(origin.text),
                    BuildEvent::StepStarted { origin, .. } => after.push(origin.text),
                    BuildEvent::TargetFinished { .. } => {
                        if let Some(arrived) = sender.take().filter(|_| comes) {
                            arrived.send(()).expect("somebody waits for it");
                        }
                    }
                    BuildEvent::TargetFailed { error, .. } => panic!("{error}"),
                    _ => {}
                }
            }
            [before, after]
        };
        let both = async { tokio::join!(crate::run(engine.clone(), plan, out, Cancel::new()), watching) };
        let (outcome, started) = tokio::time::timeout(HANG, Box::pin(both)).await.expect("it hangs");
        assert!(outcome.targets.iter().all(Result::is_ok));
        assert_eq!(fake.container_count(), 0);
        started
    }

    #[tokio::test]
    async fn what_does_not_need_it_goes_on_meanwhile() {
        assert_eq!(build(true).await, [vec!["other"], vec!["second"]]);
    }

    #[tokio::test]
    async fn what_does_not_arrive_is_made() {
        assert_eq!(build(false).await, [vec!["other"], vec!["first", "second"]]);
    }
}
