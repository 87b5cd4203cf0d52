use proptest::prelude::*;

use super::*;

/// The example of Go's `golang.org/x/mod/sumdb/note`.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\
    \n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn signer(name: &str) -> NoteSigner {
    NoteSigner::try_new(name, Ed25519Key::from_seed([7; 32])).unwrap()
}

fn read(note: &str, key: &VerifierKey) -> Result<String, NoteError> {
    note.parse::<UnverifiedNote>()?.verified_by(key)
}

#[track_caller]
fn refused(note: &str, expected: NoteError) {
    assert_eq!(read(note, &KEY.parse().unwrap()), Err(expected));
}

#[test]
fn a_note_of_another_signer_is_refused() {
    let note = signer("someone").sign("text\n").unwrap();
    refused(&note, NoteError::NotSigned);
}

#[test]
fn a_changed_text_is_refused() {
    refused(&NOTE.replace("answer", "Answer"), NoteError::Forged);
}

#[test]
fn a_key_of_the_same_name_does_not_stand_in() {
    let note = signer("PeterNeumann").sign("text\n").unwrap();
    refused(&note, NoteError::NotSigned);
}

#[test]
fn what_is_no_note_is_refused() {
    refused("", NoteError::Text);
    refused("text", NoteError::Text);
    refused("te\rxt\n\n", NoteError::Text);
    refused("text\n", NoteError::Form);
    refused("text\n\n", NoteError::Form);
    refused("text\n\n- name AAAA\n", NoteError::Signature);
    refused("text\n\n\u{2014} name AAAAAA==\n", NoteError::Signature);
    refused("text\n\n\u{2014} na+me AAAAAAAA\n", NoteError::Signature);
    refused("text\n\n\u{2014} name  AAAAAAAA\n", NoteError::Signature);
    refused(&"a".repeat(MAX_NOTE + 1), NoteError::TooLong);
    let many = "\u{2014} name AAAAAAAA\n".repeat(101);
    refused(&format!("text\n\n{many}"), NoteError::TooManySignatures);
}

#[test]
fn what_is_no_key_is_refused() {
    let refused = |text: &str, expected| assert_eq!(text.parse::<VerifierKey>(), Err(expected));
    refused("PeterNeumann", KeyError::Form);
    refused(&KEY.replace("c74f20a3", "c74f20a4"), KeyError::Id);
    refused(&KEY.replace("c74f20a3", "C74F20A3"), KeyError::Id);
    refused(&KEY.replace("Peter", "Peter "), KeyError::Name);
    refused(&KEY.replace("+ARpc", "+BRpc"), KeyError::Algorithm);
    refused(&KEY.replace("10TW", ""), KeyError::Algorithm);
    assert_eq!(signer("a").verifier.name(), "a");
    assert_eq!(
        NoteSigner::try_new("", Ed25519Key::generate()).err(),
        Some(KeyError::Name)
    );
}

#[test]
fn gos_note_is_verified_by_its_key() {
    let key: VerifierKey = KEY.parse().unwrap();
    let text = read(NOTE, &key).unwrap();
    assert!(text.ends_with("what your problem is.\n"));
    assert_eq!(key.to_string(), KEY);
}

#[test]
fn signatures_of_others_do_not_disturb() {
    let ours = signer("ours");
    let note = ours.sign("text\n").unwrap();
    let both = format!("{note}\u{2014} other AAAAAAAA\n");
    assert_eq!(read(&both, ours.verifier()).as_deref(), Ok("text\n"));
}

#[test]
fn a_text_with_control_characters_is_not_signed() {
    assert_eq!(signer("ours").sign("a\tb\n"), Err(NoteError::Text));
    assert_eq!(signer("ours").sign("without an end"), Err(NoteError::Text));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_was_signed_is_read(text in "[ -~\n\u{e9}]{0,60}", name in "[a-z./-]{1,20}") {
        let text = format!("{text}\n");
        let signer = signer(&name);
        let note = signer.sign(&text).unwrap();
        prop_assert_eq!(read(&note, signer.verifier()), Ok(text));
    }

    #[test]
    fn a_note_that_was_changed_anywhere_is_refused(place: prop::sample::Index, to in "[ -~\n]") {
        let place = place.index(NOTE.len());
        prop_assume!(NOTE.is_char_boundary(place) && NOTE.is_char_boundary(place + 1));
        prop_assume!(NOTE[place..=place] != to);
        let mut changed = NOTE.to_owned();
        changed.replace_range(place..=place, &to);
        prop_assert!(read(&changed, &KEY.parse().unwrap()).is_err());
    }

    #[test]
    fn any_text_is_read_or_refused(note in "(\u{2014} |[a-zA-Z+ \n]){0,80}") {
        let _ = note.parse::<UnverifiedNote>();
        if let Ok(key) = note.parse::<VerifierKey>() {
            prop_assert_eq!(key.to_string(), note);
        }
    }
}
