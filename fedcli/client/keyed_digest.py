"""The keyed digest by which an update names the examples that it was made from."""

from fedcli.client.session import Session
from fedcli.security.examples_key import ExamplesKey, key_file


def keyed_digest(session: Session, client: str, fingerprint: str, *, own_data: bool) -> str:
    """Return the digest, hex, of a client's examples with this SHA-256.

    The key of examples in the run is public, as they are. That of a client's own data follows from
    its private key, or is in a file of its own. Raises what ``ExamplesKey.of_file`` does.
    """
    run, state = session.run, session.execution.state
    if not own_data:
        key = ExamplesKey.of_simulation(run.id)
    elif session.key is not None:
        key = ExamplesKey.of_member(session.key)
    else:
        key = ExamplesKey.of_file(key_file(state, outside=run.root), outside=run.root)
    return key.digest(run.id, session.round.number, client, fingerprint)
