import sys
from pathlib import Path
import trio
from tests.reach.hosts.world import enter, FOLDER
from tests.reach.hosts.site import Site
enter(sys.argv[1:])
async def go():
    folder = Path(FOLDER)/"site"; folder.mkdir()
    folder.chmod(0o755)
    s=Site(folder, 2)
    try:
        t=trio.current_time()
        await s.start()
        print("started", trio.current_time()-t)
        import httpx
        for n in ("a","b"):
            print(httpx.get(s.url(n)+"/readyz").text)
        print(httpx.get(s.url("admin")+"/healthz").status_code)
    except BaseException:
        import pprint; pprint.pprint(s.logs()); print((folder/"postgres"/"log").read_text()[-2000:]); raise
trio.run(go)
