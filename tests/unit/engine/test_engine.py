from tests.unit.engine.cell import Cell


def test_a_single_replica_answers_a_write_when_it_is_durable_and_a_read_at_once():
    cell = Cell()
    node = cell.master()
    node.disk_held = True
    write = cell.call("put", path="/a", contents=b"x")
    cell.settle()
    assert write not in cell.answers
    node.disk_held = False
    cell.settle()
    assert cell.answers[write]["stat"]["size"] == 1
    assert cell.do("get", path="/a")["contents"] == b"x"


def test_three_replicas_lock_and_wake():
    cell = Cell(3)
    one, two = cell.open(), cell.open()
    held = one.do("acquire", path="/l")
    waiting = two.call("acquire", path="/l")
    cell.settle()
    assert waiting not in cell.answers
    one.do("release", path="/l", hold=held["hold"])
    assert cell.answers[waiting]["token"] > held["token"]
