//! A file as the rules see it: its lines, which of them are code outside tests, and code with comments and string
//! contents taken out. Pure. Not a parser: it knows Rust's comments, strings and character literals, nothing more.

/// One file of the tree.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// The same lines; in Rust files without comments, string contents and the tests at the end.
    pub(crate) code: Vec<String>,
}

impl SourceFile {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let is_rust = path.ends_with(".rs");
        let bare = if is_rust { without_comments(text) } else { text.to_owned() };
        let code = bare.lines().map(str::to_owned);
        let code =
            if is_rust { code.take_while(|line| !starts_tests(line)).collect() } else { code.collect() };
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// (line number from 1, code of the line) where `word` stands as a word of its own.
    pub(crate) fn lines_with(&self, word: &str) -> Vec<usize> {
        let numbered = self.code.iter().enumerate();
        numbered.filter(|(_, line)| has_word(line, word)).map(|(index, _)| index + 1).collect()
    }
}

/// By the project's habit the tests are the last item of a file.
fn starts_tests(line: &str) -> bool {
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
}

/// Whether `word` (which may hold `::`) occurs with no letter, digit or `_` directly before or behind it.
/// A word that ends in a sign, such as `println!` or `rand::`, is bounded on that side already.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let behind = line.get(at + word.len()..).and_then(|text| text.chars().next());
        let open_end = word.chars().next_back().is_some_and(is_part);
        !(before.is_some_and(is_part) || (open_end && behind.is_some_and(is_part)))
    })
}

/// The text with comments and the insides of strings replaced by nothing; line breaks are kept.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let skipped = skip(rest, out.chars().next_back());
        let (taken, keep) = match skipped {
            Some(length) => (length, ""),
            None => (character.len_utf8(), rest.get(..character.len_utf8()).unwrap_or_default()),
        };
        let passed = rest.get(..taken).unwrap_or(rest);
        if skipped.is_some() {
            out.extend(passed.chars().filter(|&each| each == '\n'));
        }
        out.push_str(keep);
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

/// How many bytes of a comment or literal begin here; `None` when code begins here.
fn skip(rest: &str, before: Option<char>) -> Option<usize> {
    let in_word = before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if rest.starts_with('"') {
        return Some(string_length(rest));
    }
    if !in_word && rest.starts_with('r') {
        return raw_string_length(rest);
    }
    if rest.starts_with('\'') { character_length(rest) } else { None }
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string_length(rest: &str) -> Option<usize> {
    let hashes = rest.chars().skip(1).take_while(|&character| character == '#').count();
    let body = rest.get(1 + hashes..)?.strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&close)?;
    Some(1 + hashes + 1 + end + close.len())
}

/// `'x'` or `'\n'`, but not a lifetime.
fn character_length(rest: &str) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1);
    let (_, first) = characters.next()?;
    if first == '\\' {
        return rest.get(3..)?.find('\'').map(|end| end + 4);
    }
    let (at, second) = characters.next()?;
    (second == '\'').then_some(at + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn takes_out_comments_strings_and_tests() {
        let text = "let a = \"tokio \\\" x\"; // aya\n/* kube\n */ let c = '\"'; let l: &'static str = r#\"aya \" x\"#;\nuse real::thing;\n#[cfg(test)]\nmod tests { use tokio; }\n";
        let file = SourceFile::new("a.rs", text);
        let code = file.code.join("\n");
        for gone in ["tokio", "aya", "kube"] {
            assert!(!code.contains(gone), "{gone} in {code}");
        }
        assert_eq!(file.lines_with("real::thing"), [4]);
        assert!(code.contains("'static str"));
    }

    #[test]
    fn words_are_whole_words() {
        assert!(has_word("use tokio::net;", "tokio"));
        assert!(!has_word("use tokio_rustls;", "tokio"));
        assert!(!has_word("my_println!()", "println!"));
        assert!(has_word("println!(x)", "println!"));
    }
}
