// SPDX-License-Identifier: MIT
// One process, both ends: a user logs in by password (JAAS), a service by keytab, then JGSS with krb5 and with SPNEGO.
// Usage: Login USER PASSWORD SERVICE KEYTAB [delegate]; prints one line per thing that worked.
import java.security.PrivilegedExceptionAction;
import java.util.HashMap;
import java.util.Map;
import javax.security.auth.Subject;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.NameCallback;
import javax.security.auth.callback.PasswordCallback;
import javax.security.auth.login.AppConfigurationEntry;
import javax.security.auth.login.Configuration;
import javax.security.auth.login.LoginContext;
import org.ietf.jgss.GSSContext;
import org.ietf.jgss.GSSCredential;
import org.ietf.jgss.GSSManager;
import org.ietf.jgss.GSSName;
import org.ietf.jgss.MessageProp;
import org.ietf.jgss.Oid;

public class Login {
    static final String MODULE = "com.sun.security.auth.module.Krb5LoginModule";

    static Subject login(Map<String, String> options, String user, String password) throws Exception {
        Configuration conf = new Configuration() {
            public AppConfigurationEntry[] getAppConfigurationEntry(String name) {
                return new AppConfigurationEntry[] {new AppConfigurationEntry(
                    MODULE, AppConfigurationEntry.LoginModuleControlFlag.REQUIRED, options)};
            }
        };
        LoginContext context = new LoginContext("sallyport", new Subject(), callbacks -> {
            for (Callback c : callbacks) {
                if (c instanceof NameCallback)
                    ((NameCallback) c).setName(user);
                if (c instanceof PasswordCallback)
                    ((PasswordCallback) c).setPassword(password.toCharArray());
            }
        }, conf);
        context.login();
        return context.getSubject();
    }

    static Map<String, String> options(String... pairs) {
        Map<String, String> map = new HashMap<>();
        for (int i = 0; i < pairs.length; i += 2)
            map.put(pairs[i], pairs[i + 1]);
        return map;
    }

    static <T> T as(Subject who, PrivilegedExceptionAction<T> what) throws Exception {
        return Subject.doAs(who, what);
    }

    static void exchange(Subject user, Subject service, String target, Oid mech, boolean delegate)
        throws Exception {
        GSSManager manager = GSSManager.getInstance();
        Oid krb5 = new Oid("1.2.840.113554.1.2.2"), krb5Name = new Oid("1.2.840.113554.1.2.2.1");
        GSSContext initiator = as(user, () -> {
            GSSContext c = manager.createContext(manager.createName(target, krb5Name, krb5), mech, null,
                                                 GSSContext.DEFAULT_LIFETIME);
            c.requestMutualAuth(true);
            c.requestConf(true);
            c.requestCredDeleg(delegate);
            return c;
        });
        GSSContext acceptor = as(service, () -> manager.createContext(manager.createCredential(
            null, GSSCredential.INDEFINITE_LIFETIME, mech, GSSCredential.ACCEPT_ONLY)));
        byte[] token = new byte[0];
        while (!initiator.isEstablished() || !acceptor.isEstablished()) {
            byte[] in = token;
            token = as(user, () -> initiator.initSecContext(in, 0, in.length));
            if (token == null)
                break;
            byte[] out = token;
            token = as(service, () -> acceptor.acceptSecContext(out, 0, out.length));
            if (token == null)
                token = new byte[0];
        }
        byte[] text = "through the small gate".getBytes("UTF-8");
        byte[] sealed = initiator.wrap(text, 0, text.length, new MessageProp(0, true));
        byte[] opened = acceptor.unwrap(sealed, 0, sealed.length, new MessageProp(0, true));
        if (!java.util.Arrays.equals(text, opened))
            throw new Exception("what was unwrapped is not what was wrapped");
        System.out.println("context " + mech + " from " + acceptor.getSrcName() + " mutual " + initiator.getMutualAuthState());
        if (delegate)
            System.out.println("delegated " + acceptor.getDelegCred().getName());
    }

    public static void main(String[] a) throws Exception {
        Subject user = login(options("useTicketCache", "false", "refreshKrb5Config", "true"), a[0], a[1]);
        System.out.println("login " + user.getPrincipals().iterator().next());
        Subject service = login(options("useKeyTab", "true", "keyTab", a[3], "principal", a[2], "storeKey", "true",
                                        "doNotPrompt", "true", "isInitiator", "false"), "", "");
        boolean delegate = a.length > 4;
        exchange(user, service, a[2], new Oid("1.2.840.113554.1.2.2"), delegate);
        exchange(user, service, a[2], new Oid("1.3.6.1.5.5.2"), delegate);
        Subject itself = login(options("useKeyTab", "true", "keyTab", a[3], "principal", a[2], "doNotPrompt", "true"), "", "");
        System.out.println("keytab login " + itself.getPrincipals().iterator().next());
    }
}
