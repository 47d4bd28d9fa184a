//! Large contexts: what a build costs that has nothing to do. Run it with `cargo test --release -- --ignored`.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{AMD64, Bed, Graph};
use kiln_solver::context::{Context, Everything, StatCache};

const FOLDERS: usize = 500;
const FILES: usize = 100;
/// Beside reading it once more, all that a build with nothing to do does. A machine that is idle takes half of it.
const MOST: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it writes 50,000 files and measures time: only a release build on an idle machine says something"]
async fn fifty_thousand_files_are_planned_in_a_quarter_of_a_second() {
    let bed = Bed::new();
    for folder in 0..FOLDERS {
        for file in 0..FILES {
            bed.write(&format!("d{}/s{folder}/file_{file}.py", folder % 25), format!("# {folder} {file}"));
        }
    }
    // Files that were written at this very moment are not trusted.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut graph = Graph::default();
    let (scratch, local) = (graph.scratch(), graph.local());
    let copied = graph.copy(scratch, local, &["."], "/src/");
    graph.target("all", AMD64, copied);
    let cache = bed.path("context.bin");
    let mut took = Vec::new();
    for _ in 0..6 {
        let mut request = bed.request(&graph, vec![bed.files()]);
        let started = Instant::now();
        let context = Context::scan(&bed.path("src"), Arc::new(Everything), StatCache::load(&cache)).expect("scan");
        let context = Arc::new(context);
        request.contexts.insert(".".to_owned(), context.clone());
        bed.plan(request).await.expect("plan");
        took.push(started.elapsed());
        context.save_cache(&cache).expect("saved");
    }
    let best = took[1..].iter().min().copied().unwrap_or_default();
    assert!(best < MOST, "first {:?}, then {:?}", took[0], &took[1..]);
}
