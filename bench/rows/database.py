"""Does a stopped database slow delivery down? One stack, by turns with its database and without."""

from bench import probes
from bench.figures import Figure, at_least, ratios, told
from bench.plan import Plan, Tell
from bench.running import running

ROWS = {"database": "delivered/s with the database stopped, against running"}
(_ROW,) = ROWS


def measure(plan: Plan, tell: Tell) -> list[Figure]:
    """The same load by SMTP, both ways, in each round."""
    up: list[float] = []
    down: list[float] = []
    with running(plan) as (stack, sink):
        probes.warm(stack, sink)
        for number in range(plan.rounds):
            for mode, rates in (("up", up), ("down", down)):
                stack.switch_database(mode)
                rates.append(probes.submit(stack, sink, plan.mails)[1])
                stack.switch_database("up")
                probes.calm(stack)  # what was missed is recorded before the next load
            tell(f"round {number + 1}: up {up[-1]:,.0f}/s, down {down[-1]:,.0f}/s")
    return [
        at_least(_ROW, "delivered/s, stopped to running", 0.95, ratios(down, up)),
        told(_ROW, "delivered, running", up, unit="/s"),
        told(_ROW, "delivered, stopped", down, unit="/s"),
    ]
