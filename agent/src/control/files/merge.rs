//! What is in force after a reading: the good objects of now, and the last good ones where now is bad. Pure.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use crate::{
    control::{
        document::{Item, Object, ObjectKey},
        reading::Reading,
    },
    snapshot::{Problem, input::Inputs},
};

/// One reading of the folder, not yet judged.
pub(super) enum Folder {
    /// Its name and why it cannot be listed.
    Unreadable(String, String),
    /// Its files in the order of their names.
    Files(Vec<Source>),
}

/// One file.
pub(super) struct Source {
    /// Its name in the folder.
    pub(super) name: String,
    /// Its documents, or why it cannot be read.
    pub(super) content: Result<Vec<Item>, String>,
}

/// The objects in force, with the file each came from, in order.
#[derive(Debug, Default)]
pub(super) struct Kept {
    objects: Vec<InForce>,
    ignored: usize,
}

#[derive(Debug, Clone)]
struct InForce {
    key: ObjectKey,
    file: Arc<str>,
    object: Object,
}

/// What does not fit, and what is in force of it where there is no good version.
struct Bad {
    key: ObjectKey,
    problem: Problem,
    in_part: Option<(Arc<str>, Object)>,
}

/// A reading while it is put together.
struct Merge<'last> {
    last: HashMap<&'last ObjectKey, &'last InForce>,
    objects: Vec<InForce>,
    /// Keys in force, by the place where each was seen.
    seen: HashMap<ObjectKey, String>,
    bad: Vec<Bad>,
    problems: Vec<Problem>,
    unreadable: HashSet<Arc<str>>,
    ignored: usize,
}

impl Kept {
    /// Takes a reading in and says what is in force now.
    pub(super) fn merge(&mut self, folder: Folder) -> Reading {
        let last = std::mem::take(&mut self.objects);
        let files = match folder {
            Folder::Unreadable(name, error) => {
                let reason = format!(
                    "cannot be read ({error}); make it readable. The last good objects stay in force"
                );
                let problem = Problem { origin: name, object: "folder".into(), field: String::new(), reason };
                self.objects = last;
                return self.reading(vec![problem]);
            }
            Folder::Files(files) => files,
        };
        let mut merge = Merge::new(&last);
        for file in files {
            merge.file(file);
        }
        merge.keep_bad();
        merge.keep_unreadable(&last);
        let (objects, problems, ignored) = (merge.objects, merge.problems, merge.ignored);
        (self.objects, self.ignored) = (objects, ignored);
        self.reading(problems)
    }

    fn reading(&self, mut problems: Vec<Problem>) -> Reading {
        let mut inputs = Inputs::default();
        for kept in &self.objects {
            kept.object.add_to(&mut inputs);
        }
        problems.sort();
        Reading { complete: true, inputs, problems, ignored: self.ignored }
    }
}

impl<'last> Merge<'last> {
    fn new(last: &'last [InForce]) -> Self {
        Self {
            last: last.iter().map(|kept| (&kept.key, kept)).collect(),
            objects: Vec::new(),
            seen: HashMap::new(),
            bad: Vec::new(),
            problems: Vec::new(),
            unreadable: HashSet::new(),
            ignored: 0,
        }
    }

    fn file(&mut self, source: Source) {
        let file: Arc<str> = source.name.into();
        let items = match source.content {
            Ok(items) => items,
            Err(error) => {
                let reason = format!("cannot be read ({error}); its last good objects stay in force");
                self.problems.push(Problem {
                    origin: file.to_string(),
                    object: "file".into(),
                    field: String::new(),
                    reason,
                });
                self.unreadable.insert(file);
                return;
            }
        };
        for item in items {
            self.item(&file, item);
        }
    }

    fn item(&mut self, file: &Arc<str>, item: Item) {
        match item {
            Item::Good(key, object) => self.good(file, key, object),
            Item::InPart(key, object, problem) => {
                self.bad.push(Bad { key, problem, in_part: Some((file.clone(), object)) });
            }
            Item::Bad(Some(key), problem) => self.bad.push(Bad { key, problem, in_part: None }),
            Item::Bad(None, mut problem) => {
                if self.last.values().any(|kept| kept.file == *file) {
                    problem
                        .reason
                        .push_str(". Objects last seen in this file and not found now stay in force");
                }
                self.problems.push(problem);
                self.unreadable.insert(file.clone());
            }
            Item::Ignored => self.ignored += 1,
        }
    }

    fn good(&mut self, file: &Arc<str>, key: ObjectKey, object: Object) {
        match self.seen.entry(key.clone()) {
            Entry::Occupied(first) => {
                let reason = format!(
                    "is also in {}, which comes first and is in force; keep one of them",
                    first.get()
                );
                self.problems.push(Problem::of(object.metadata(), key.kind.as_str(), "", reason));
            }
            Entry::Vacant(place) => {
                place.insert(object.metadata().origin.to_string());
                // What did not change stays the same allocation.
                let object = match self.last.get(&key) {
                    Some(last) if last.object == object => last.object.clone(),
                    _ => object,
                };
                self.objects.push(InForce { key, file: file.clone(), object });
            }
        }
    }

    /// After all files: a good version elsewhere is a deliberate move and wins over the last good one.
    fn keep_bad(&mut self) {
        for Bad { key, mut problem, in_part } in std::mem::take(&mut self.bad) {
            let last = self.last.get(&key).filter(|last| last.object.is_whole());
            match (self.seen.contains_key(&key), last, in_part) {
                (false, Some(last), _) => {
                    problem.reason.push_str(". The last good version stays in force");
                    self.seen.insert(key, problem.origin.clone());
                    self.objects.push((*last).clone());
                }
                // Whoever builds the snapshot says what is wrong, and what is in force meanwhile.
                (false, None, Some((file, object))) => {
                    self.good(&file, key, object);
                    continue;
                }
                _ => {}
            }
            self.problems.push(problem);
        }
    }

    fn keep_unreadable(&mut self, last: &[InForce]) {
        for kept in last {
            if self.unreadable.contains(&kept.file) && !self.seen.contains_key(&kept.key) {
                self.seen.insert(kept.key.clone(), kept.file.to_string());
                self.objects.push(kept.clone());
            }
        }
    }
}
