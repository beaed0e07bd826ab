"""`demo`: sees the promise kept. Exit code 0 only if nothing was lost, refused or duplicated."""

import asyncio
import secrets
import time
from contextlib import nullcontext

import click
import httpx
from rich.console import Console

from nightmail.client_details import ClientDetails
from nightmail.complaint import Complaint, load_settings
from nightmail.demo.display import Display, account
from nightmail.demo.ledger import Ledger
from nightmail.demo.own_stack import own_stack
from nightmail.demo.story import Outcome, Plan, Story
from nightmail.ready import reachable
from nightmail.stack_folder import StackFolder, read_environment


@click.command()
@click.option("--mails", type=click.IntRange(min=2), default=2_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=1), default=40, show_default=True, help="How long to send.")
@click.option("--running", is_flag=True, help="Use the stack that runs in the data folder instead of an own one.")
def demo(*, mails: int, seconds: float, running: bool) -> None:
    """Send mail by API and SMTP, take the database away half way, and account for every mail."""
    console = Console()
    began = time.monotonic()
    with _running_stack() if running else own_stack() as folder:
        console.print(
            f"A stack is up after {time.monotonic() - began:.1f} s; sending {mails} mails in {seconds:.0f} s."
        )
        outcome = _run(folder, Plan(mails, seconds), console)
    verdict = outcome.verdict
    console.print("\n" + account(verdict, outage=outcome.outage, catch_up=outcome.catch_up), highlight=False)
    for refusal in outcome.refusals:
        console.print(f"  refused with      {refusal}", highlight=False, markup=False)
    console.print(f"\n{'The promise held' if verdict.good else 'The promise did NOT hold'}; ", end="")
    console.print(f"the demo took {time.monotonic() - began:.0f} s.", highlight=False)
    if not verdict.good:
        raise SystemExit(1)


def _running_stack() -> nullcontext[StackFolder]:
    folder = StackFolder(load_settings().data_dir.absolute())
    if folder.state() is None:
        raise Complaint(f"No stack with the data folder {folder.data_dir} is running; see NIGHTMAIL_DATA_DIR.")
    return nullcontext(folder)


def _run(folder: StackFolder, plan: Plan, console: Console) -> Outcome:
    details = ClientDetails.from_environment(read_environment(folder.local_env))
    variables = read_environment(folder.stack_env)
    ledger = Ledger(secrets.token_hex(4))
    display = Display(console, plan.mails)
    mailbox_url = f"http://{reachable(details.smtp_host)}:{variables['NIGHTMAIL_MAILBOX_PORT']}"
    try:
        with display.live():
            return asyncio.run(Story(plan, ledger, display).tell(details, mailbox_url))
    except httpx.HTTPError as error:
        raise Complaint(f"The stack does not answer any more ({error!r}); see {folder.log}.") from None
