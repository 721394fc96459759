//! A folder that changes: what stays in force.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;

use super::*;

fn pod(name: &str, address: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nstatus: {{podIP: '{address}'}}\n")
}

/// `name address` of each pod, sorted.
fn pods(reading: &Reading) -> Vec<String> {
    let pods = reading.inputs.pods.iter();
    let mut pods: Vec<_> =
        pods.map(|pod| format!("{} {}", pod.metadata.name, pod.addresses.join(","))).collect();
    pods.sort();
    pods
}

#[test]
fn what_is_bad_keeps_its_last_good_version_and_what_is_gone_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let mut source = FileSource::open(folder.path()).unwrap();
    write("a.yaml", &(pod("a", "1") + &pod("b", "1")));
    write("b.yml", &pod("c", "1"));
    write(".hidden.yaml", &pod("d", "1"));
    write("notes.txt", "words");
    assert_eq!(pods(&source.read()), ["a 1", "b 1", "c 1"]);

    // Bad with a name: that one is kept, the other follows.
    write("a.yaml", &(pod("a", "2") + &pod("b", "").replace("''", "[]")));
    let reading = source.read();
    assert_eq!(pods(&reading), ["a 2", "b 1", "c 1"]);
    assert!(reading.problems[0].reason.contains("last good version stays"), "{:?}", reading.problems);
    // Still kept when read again.
    assert_eq!(source.read(), reading);

    // A document that cannot be read: all of the file that is not seen elsewhere stays.
    write("a.yaml", "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a");
    write("b.yml", &pod("b", "9"));
    assert_eq!(pods(&source.read()), ["a 2", "b 9"]);

    // Not text at all, and too large.
    fs::write(folder.path().join("a.yaml"), [0xff, 0xfe, 0]).unwrap();
    assert_eq!(pods(&source.read()), ["a 2", "b 9"]);
    let large = fs::File::create(folder.path().join("a.yaml")).unwrap();
    large.set_len(MAX_FILE + 1).unwrap();
    let reading = source.read();
    assert_eq!(pods(&reading), ["a 2", "b 9"]);
    assert!(reading.problems[0].reason.contains("16 MiB"));

    // Deleted for good; a folder that is away keeps all.
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert_eq!(pods(&source.read()), ["b 9"]);
    let away = folder.path().with_extension("away");
    fs::rename(folder.path(), &away).unwrap();
    let reading = source.read();
    assert_eq!((pods(&reading), reading.problems.len()), (vec!["b 9".to_owned()], 1));
    fs::rename(&away, folder.path()).unwrap();
    assert_eq!(source.read().problems, []);
}

#[test]
fn the_first_file_wins_and_unchanged_objects_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = FileSource::open(folder.path()).unwrap();
    fs::write(folder.path().join("b.yaml"), pod("a", "2")).unwrap();
    fs::write(folder.path().join("a.yaml"), pod("a", "1") + "---\napiVersion: v1\nkind: Secret\n").unwrap();
    let (first, second) = (source.read(), source.read());
    assert_eq!((pods(&first), first.ignored), (vec!["a 1".to_owned()], 1));
    assert_eq!(first.problems.len(), 1);
    assert!(first.problems[0].to_string().contains("is also in a.yaml document 1"), "{:?}", first.problems);
    assert!(Arc::ptr_eq(&first.inputs.pods[0], &second.inputs.pods[0]));
    assert!(FileSource::open(&folder.path().join("none")).is_err());
}

#[tokio::test]
async fn follows_changes_and_swapped_config_maps() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (version, address) in [("..1", "1"), ("..2", "2")] {
        fs::create_dir(path(version)).unwrap();
        fs::write(path(version).join("a.yaml"), pod("a", address)).unwrap();
    }
    std::os::unix::fs::symlink("..1", path("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", path("a.yaml")).unwrap();
    let mut receiver = FileSource::start(folder.path()).unwrap();
    assert_eq!(pods(&receiver.borrow_and_update()), ["a 1"]);
    std::os::unix::fs::symlink("..2", path("..new")).unwrap();
    fs::rename(path("..new"), path("..data")).unwrap();
    changed(&mut receiver).await;
    assert_eq!(pods(&receiver.borrow_and_update()), ["a 2"]);
    fs::write(path("b.yaml"), pod("b", "1")).unwrap();
    changed(&mut receiver).await;
    assert_eq!(pods(&receiver.borrow_and_update()), ["a 2", "b 1"]);
}

async fn changed(receiver: &mut channel::Receiver<Arc<Reading>>) {
    tokio::time::timeout(Duration::from_secs(5), receiver.changed()).await.expect("heard in time").unwrap();
}

#[test]
fn a_policy_that_was_never_in_order_is_in_force_as_far_as_it_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = FileSource::open(folder.path()).unwrap();
    let mut read = |rules: &str| {
        let text = format!(
            "apiVersion: posthaste.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: a, namespace: b}}\nspec: {{action: DENY, rules: [{rules}]}}\n"
        );
        fs::write(folder.path().join("a.yaml"), text).unwrap();
        let reading = source.read();
        let [policy] = &reading.inputs.authorization_policies[..] else { panic!("{reading:?}") };
        let reasons: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
        (policy.unread.is_some(), policy.spec.rules.len(), reasons.join(" "))
    };
    let good = "{from: [{source: {namespaces: [x]}}]}, {}";
    // Never in order: what is wrong is said where the policy is put in force.
    assert_eq!(read("1"), (true, 1, String::new()));
    assert_eq!(read("1, 2"), (true, 2, String::new()), "a later one takes its place");
    assert_eq!(read(good), (false, 2, String::new()));
    let (in_part, rules, problem) = read("3");
    assert_eq!((in_part, rules), (false, 2), "the last good one stays");
    assert!(problem.contains("spec.rules[0]") && problem.contains("last good version stays"), "{problem}");
}
