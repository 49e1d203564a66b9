//! Scripts with one deliberate mistake each: the usual slips, made at every place where they can be, and mistakes with a name, which
//! a person could make. Changes texts only; whether the suite sees them is another matter.

use common::queue::{SHARED, SOURCES};

use super::named_mutants::{EQUIVALENT, NAMED};

/// The scripts with one mistake.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// The script's verb, or the name of what stands before it.
    pub script: &'static str,
    /// What is wrong: a name, or the line as it was and as it is.
    pub what: String,
    /// The line before the mistake, and the line with it.
    lines: String,
    /// The text of the script's part with the mistake.
    text: String,
}

/// A script's parts by name: what stands before scripts, and what is each script's own.
fn parts() -> Vec<(&'static str, &'static str)> {
    SHARED.iter().copied().chain(SOURCES.iter().map(|(name, source)| (*name, own(source)))).collect()
}

/// What is a script's own.
fn own(source: &'static str) -> &'static str {
    &source[source.find("-- purpose:").expect("each script has a header")..]
}

impl Mutant {
    /// All scripts by their verb as they are with the mistake.
    pub fn scripts(&self) -> impl Iterator<Item = (&'static str, String)> {
        let text =
            |name: &str, sound: &str| if name == self.script { self.text.clone() } else { sound.to_owned() };
        let shared = SHARED.iter().map(|(name, sound)| (*sound, text(name, sound)));
        let shared: Vec<_> = shared.collect();
        let texts: Vec<_> = SOURCES
            .iter()
            .map(|(name, source)| {
                let before = shared.iter().filter(|(sound, _)| source.contains(sound));
                let before: String = before.map(|(_, text)| text.as_str()).collect();
                (*name, before + &text(name, own(source)))
            })
            .collect();
        texts.into_iter()
    }
}

/// The scripts without a mistake.
pub fn sound() -> Mutant {
    let (script, text) = parts()[0];
    Mutant { script, what: "nothing".to_owned(), lines: String::new(), text: text.to_owned() }
}

/// The mistakes with a name. Panics if a text that one of them exchanges is not in its script exactly once: then it is no mistake.
pub fn named() -> Vec<Mutant> {
    let mutant = |(what, script, from, to): &(&str, &str, &str, &str)| {
        let (script, text) = *parts().iter().find(|(name, _)| name == script).expect("a script's name");
        let times = text.matches(from).count();
        assert_eq!(times, 1, "`{what}`: `{from}` is in {script}.lua {times} times");
        Mutant { script, what: (*what).to_owned(), lines: String::new(), text: text.replace(from, to) }
    };
    NAMED.iter().map(mutant).collect()
}

/// The usual slips at every place of every script, but for those that change nothing that anybody could see. Panics if one of those is
/// not among the slips.
pub fn generated() -> Vec<Mutant> {
    let mut mutants = slips_everywhere();
    for (script, why, lines) in EQUIVALENT {
        for line in *lines {
            let before = mutants.len();
            let is_it =
                |mutant: &Mutant| mutant.lines == *line || mutant.lines.ends_with(&format!("\n{line}"));
            mutants.retain(|mutant| mutant.script != *script || !is_it(mutant));
            assert!(mutants.len() < before, "`{line}` ({why}) is no slip of {script}.lua");
        }
    }
    mutants
}

/// The slips that change nothing that anybody could see.
pub fn equivalent() -> Vec<Mutant> {
    let is_played = generated();
    let is_equivalent = |mutant: &Mutant| is_played.iter().all(|played| played.text != mutant.text);
    slips_everywhere().into_iter().filter(is_equivalent).collect()
}

fn slips_everywhere() -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (script, text) in parts() {
        let mut before = "";
        for (number, line) in text.lines().enumerate() {
            for slip in slips(line, before.ends_with(['=', ',', '('])) {
                let lines = text.lines().enumerate().map(|(n, line)| if n == number { &slip } else { line });
                let (was, is) = (line.trim(), slip.trim());
                let what = if is == FORGOTTEN {
                    format!("`{was}` forgotten")
                } else {
                    format!("`{was}` became `{is}`")
                };
                let text = lines.flat_map(|line| [line, "\n"]).collect();
                mutants.push(Mutant { script, what, lines: format!("{}\n{is}", before.trim()), text });
            }
            before = line;
        }
    }
    mutants
}

/// Words that are taken for each other.
const WORDS: [(&str, &str); 16] = [
    (" == ", " ~= "),
    (" ~= ", " == "),
    (" < ", " <= "),
    (" <= ", " < "),
    (" > ", " >= "),
    (" >= ", " > "),
    (" and ", " or "),
    (" or ", " and "),
    (" not ", " "),
    (" + ", " - "),
    (" - ", " + "),
    ("'head'", "'tail'"),
    ("'tail'", "'head'"),
    ("LPOP", "RPOP"),
    ("math.min", "math.max"),
    ("math.max", "math.min"),
];

/// What stands in the place of a statement that is left out.
const FORGOTTEN: &str = "-- forgotten";
/// Without this line a script never ends, and nobody would take it for sound.
const ENDS_A_LOOP: &str = "left = left - CHUNK";

/// What a careless hand makes of a line: it takes one word for another, forgets the statement, ignores the condition.
fn slips(line: &str, is_continued: bool) -> Vec<String> {
    let code = line.trim_start();
    let is_code = !code.is_empty() && !code.starts_with("--");
    if !is_code || code == ENDS_A_LOOP {
        return Vec::new();
    }
    let words = WORDS.iter().flat_map(|(from, to)| {
        line.match_indices(from).map(|(at, _)| [&line[..at], to, &line[at + from.len()..]].concat())
    });
    let mut slips: Vec<String> = words.collect();
    slips.extend(numbers(line));
    let indent = &line[..line.len() - code.len()];
    if let Some((keyword, condition)) = condition(code) {
        slips.push(format!("{indent}{keyword} true or {condition} then"));
        slips.push(format!("{indent}{keyword} false and ({condition}) then"));
    } else if !is_continued && is_statement(code) {
        slips.push(format!("{indent}{FORGOTTEN}"));
    }
    // Appending to a list is no arithmetic.
    slips.retain(|slip| !line.contains("[#") || slip.contains("+ 1]") || slip.ends_with(FORGOTTEN));
    slips
}

/// The condition of a line that branches.
fn condition(code: &str) -> Option<(&str, &str)> {
    let (keyword, rest) = code.split_once(' ')?;
    let condition = rest.strip_suffix(" then")?;
    matches!(keyword, "if" | "elseif").then_some((keyword, condition))
}

/// Whether a line is one whole statement that can be left out: a call, or a new value for a variable that is there.
fn is_statement(code: &str) -> bool {
    let is_balanced = code.matches(['(', '{']).count() == code.matches([')', '}']).count();
    let starts_with_word = |end: char| {
        let word = code.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        word.len() < code.len() && word.starts_with(end)
    };
    let is_declaration = ["local ", "function ", "return", "for ", "while ", "if ", "else", "end"];
    let is_declaration = is_declaration.iter().any(|word| code.starts_with(word));
    is_balanced && !is_declaration && !code.ends_with(',') && (starts_with_word('(') || code.contains(" = "))
}

/// Each whole number of a line, one higher.
fn numbers(line: &str) -> Vec<String> {
    let bytes = line.as_bytes();
    let is_part =
        |at: usize| bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'%');
    let starts = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit() && (*at == 0 || !is_part(at - 1)));
    let higher = |start: usize| {
        let digits = line[start..].bytes().take_while(u8::is_ascii_digit).count();
        let end = start + digits;
        let number: u64 = line[start..end].parse().ok().filter(|_| !is_part(end))?;
        Some(format!("{}{}{}", &line[..start], number + 1, &line[end..]))
    };
    starts.filter_map(higher).collect()
}
