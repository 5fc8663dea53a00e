// Iceberg's own REST catalog over SQLite, with its tables in a folder: java -cp 'jars/*' Catalog.java PORT FOLDER
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

public class Catalog {
  public static void main(String[] arguments) throws Exception {
    String folder = arguments[1];
    JdbcCatalog catalog = new JdbcCatalog();
    catalog.setConf(new Configuration());
    catalog.initialize("catalog", Map.of(
        "uri", "jdbc:sqlite:" + folder + "/catalog.db", "jdbc.schema-version", "V1",
        "warehouse", "file://" + folder + "/warehouse", "io-impl", "org.apache.iceberg.hadoop.HadoopFileIO"));
    Server server = new Server();
    ServerConnector connector = new ServerConnector(server);
    connector.setHost("127.0.0.1");
    connector.setPort(Integer.parseInt(arguments[0]));
    server.addConnector(connector);
    ServletContextHandler handler = new ServletContextHandler();
    handler.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
    server.setHandler(handler);
    server.start();
    System.out.println("endpoint=http://127.0.0.1:" + connector.getLocalPort());
    server.join();
  }
}
