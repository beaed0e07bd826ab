"""What goes on the wire for one delivery: envelope, content, and the SMTP commands made of them. Pure."""

import re
from collections.abc import AsyncGenerator, Mapping

from outbox.blobs import OpenBlob
from outbox.message import Claim, Message
from runtime.frozen import frozen
from worker.errors import Smtputf8Missing, TooLarge
from worker.signed import PLAIN, Signed

# A path that can stand between < and > and end there (RFC 5321 section 4.1.2, RFC 6531 section 3.3). Whatever could
# end the path or the line early would let an address carry commands or parameters.
_PATH = re.compile(
    r"""(?: "(?: [^"\\\x00-\x1f\x7f] | \\[^\x00-\x1f\x7f] )*" | [^\x00-\x20\x7f<>"@\\]+ ) @ [^\x00-\x20\x7f<>"@]+""",
    re.VERBOSE,
)


@frozen
class Envelope:
    """A reverse-path, forward-paths and content in canonical CRLF form, as one transaction carries them."""

    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes | OpenBlob
    smtputf8: bool = False

    @classmethod
    def of(cls, claim: Claim, signed: Signed = PLAIN, blob: OpenBlob | None = None) -> "Envelope":
        """The envelope of the recipients that are still to be tried, with what their sender's domain adds.

        `blob` is the content of a large message.
        """
        message = claim.message
        return cls(
            _reverse_path(message, signed),
            tuple([message.recipients[index].address for index in claim.recipients]),
            signed.signatures + claim.content if blob is None else blob.behind(signed.signatures),
            message.smtputf8,
        )

    def mail(self, features: Mapping[str, str]) -> bytes:
        """The MAIL command for a server that offers `features`. Raises Smtputf8Missing, TooLarge."""
        words = [f"MAIL FROM:<{self.reverse_path}>"]
        if "SIZE" in features:
            limit = features["SIZE"]
            if limit.isdigit() and 0 < int(limit) < len(self.content):  # RFC 1870 section 4: 0 is no limit
                raise TooLarge(f"{len(self.content)} octets, and the next hop takes {limit}")
            words.append(f"SIZE={len(self.content)}")
        # Without 8BITMIME, eight bits are sent as they are: re-encoding would break signatures, and every server that
        # is alive takes them (as Exim does; RFC 6152 section 3 would have us convert or bounce).
        if "8BITMIME" in features and not self.content.isascii():
            words.append("BODY=8BITMIME")
        if self.smtputf8 or not all(map(str.isascii, (self.reverse_path, *self.recipients))):
            if "SMTPUTF8" not in features:
                raise Smtputf8Missing("the message needs SMTPUTF8, which the next hop does not offer")
            words.append("SMTPUTF8")
        return " ".join(words).encode() + b"\r\n"


def dots_stuffed(content: bytes) -> bytes:
    """The content as DATA carries it: dots stuffed (RFC 5321 section 4.5.2), but without the final dot."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


async def blocks_stuffed(content: OpenBlob) -> AsyncGenerator[bytes, None]:
    """The same of a large content, block by block."""
    tail = b"\r\n"  # the last two octets so far: the start of the content is the start of a line
    async for block in content.blocks():
        yield (tail + block).replace(b"\r\n.", b"\r\n..")[2:]
        tail = (tail + block)[-2:]
    if tail != b"\r\n":
        yield b"\r\n"


def _reverse_path(message: Message, signed: Signed) -> str:
    """The message's own, or one at the domain's return path that names the message; a null one stays null."""
    if not message.reverse_path or not signed.return_path_domain:
        return message.reverse_path
    return f"{message.id}@{signed.return_path_domain}"


def rcpt(recipient: str) -> bytes:
    """The RCPT command."""
    return f"RCPT TO:<{recipient}>\r\n".encode()


def writable(path: str) -> bool:
    """Whether an address can be written in a command."""
    return _PATH.fullmatch(path) is not None
