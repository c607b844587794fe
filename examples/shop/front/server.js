// The shop's face: a page, and orders passed on to the service behind it.
const http = require("http");

const page = `<!doctype html><title>Shop</title>
<form method="post" action="/orders"><input name="item"><button>Order</button></form>
<p><a href="/orders">All orders</a></p>\n`;

http.createServer((request, response) => {
  if (request.url !== "/orders") {
    response.writeHead(request.url === "/" ? 200 : 404, { "Content-Type": "text/html" });
    response.end(request.url === "/" ? page : "");
    return;
  }
  const behind = http.request(
    process.env.ORDERS + "/orders",
    { method: request.method, headers: { "Content-Length": request.headers["content-length"] || 0 } },
    (answer) => {
      response.writeHead(answer.statusCode, { "Content-Type": answer.headers["content-type"] });
      answer.pipe(response);
    },
  );
  behind.on("error", (error) => {
    response.writeHead(502, { "Content-Type": "text/plain" });
    response.end(`orders: ${error.message}\n`);
  });
  request.pipe(behind);
}).listen(3000);
