//! What a program says to a wrong command line: in the form of all its other errors, `error: …` and then `hint: …`. It prints nothing.

/// The message for a mistake that clap found, with a line feed at its end.
///
/// Clap's own page has a usage line that lists what was typed and a pointer to `--help`; neither says what to do instead.
pub fn refusal(mistake: &clap::Error) -> String {
    let page = mistake.render().to_string();
    let page = page.replace("invalid digit found in string", "expected a whole number, 0 or more");
    let page = page.replace("invalid float literal", "expected a number");
    let mut message = Vec::new();
    let mut hints = Vec::new();
    for line in page.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(tip) = line.trim_start().strip_prefix("tip: ") {
            hints.push(format!("hint: {tip}"));
        } else if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        } else {
            message.push(line.to_owned());
        }
    }
    if hints.is_empty() {
        hints.push("hint: the same command with --help shows what is expected, with examples".to_owned());
    }
    message.extend(hints);
    message.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_comes_with_a_hint_and_without_the_usage_page() {
        let command = || {
            clap::Command::new("x").arg(
                clap::Arg::new("cores").long("cores").value_name("N").value_parser(clap::value_parser!(u32)),
            )
        };
        let check = |typed: &[&str], expect: &str| {
            let mistake = command().try_get_matches_from(typed).unwrap_err();
            assert_eq!(refusal(&mistake), expect);
        };
        check(
            &["x", "--core", "1"],
            "error: unexpected argument '--core' found\nhint: a similar argument exists: '--cores'\n",
        );
        check(
            &["x", "--cores", "some"],
            "error: invalid value 'some' for '--cores <N>': expected a whole number, 0 or more\n\
             hint: the same command with --help shows what is expected, with examples\n",
        );
    }
}
